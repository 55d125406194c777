"""Fusion: several rankings of the same candidates become one.

``zscore`` sums weighted standard scores, so that each retriever's own scale drops out; ``rrf`` sums
weighted reciprocal ranks (Cormack et al. 2009, k = 60). A candidate that a retriever did not score
gets that retriever's lowest score, or no reciprocal rank.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .ranked import Ranked

RRF_K = 60


def fuse(
    rankings: Mapping[str, Ranked],
    weights: Mapping[str, float],
    method: Literal["zscore", "rrf"] = "zscore",
) -> Ranked:
    """Fuse rankings by name.

    >>> a = Ranked.of([1, 2, 3], [9.0, 5.0, 1.0])
    >>> b = Ranked.of([2, 3], [0.9, 0.1])
    >>> fuse({"a": a, "b": b}, {"a": 1.0, "b": 1.0}, "rrf").ids.tolist()
    [2, 3, 1]
    """
    ids, scores = comparable(rankings, method)
    total = np.zeros(len(ids), np.float32)
    for name, values in scores.items():
        total += weights.get(name, 0.0) * values
    return Ranked.of(ids, total)


def comparable(
    rankings: Mapping[str, Ranked], method: Literal["zscore", "rrf"] = "zscore"
) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float32]]]:
    """Return all ids, rising, and what each ranking that is not empty gives them to be summed."""
    used = {name: ranked for name, ranked in rankings.items() if len(ranked.ids)}
    if not used:
        return np.zeros(0, np.int64), {}
    ids = np.unique(np.concatenate([ranked.ids for ranked in used.values()]))
    score = _standard if method == "zscore" else _reciprocal
    return ids, {name: score(ranked, ids) for name, ranked in used.items()}


def _standard(ranked: Ranked, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    values = np.full(len(ids), ranked.scores.min(), np.float32)
    values[np.searchsorted(ids, ranked.ids)] = ranked.scores
    spread = values.std()
    return (values - values.mean()) / spread if spread > 0 else np.zeros_like(values)


def _reciprocal(ranked: Ranked, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    values = np.zeros(len(ids), np.float32)
    values[np.searchsorted(ids, ranked.ids)] = 1.0 / (RRF_K + 1 + np.arange(len(ranked.ids)))
    return values
