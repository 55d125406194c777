"""Diversify: choose k of the best hits so that they do not say the same thing again.

Both methods are greedy over candidates with a relevance ``r`` in [0, 1], their score between the
lowest and the highest of all, and the cosines ``c`` of their dense vectors, negative ones as 0:

* ``mmr``, maximal marginal relevance (Carbonell & Goldstein, SIGIR 1998): the next is
  ``argmax_d λ r(d) − (1 − λ) max_{s ∈ S} c(d, s)``.
* ``coverage``: facility location (after arXiv 2507.19715). The next is what adds most to
  ``f(S) = λ Σ_{d ∈ S} r(d) + (1 − λ) Σ_x r(x) max_{s ∈ S} c(x, s)``, ``x`` over all candidates.
  ``f`` is monotone and submodular, so that ``f(S)`` is at least ``1 − 1/e`` of the best ``k`` can
  have (Nemhauser, Wolsey & Fisher 1978).

With ``λ = 1`` both keep the ranking. A choice's score is what it added when it was chosen; that
never rises, so rankings stay rankings.
"""

import numpy as np
from numpy.typing import NDArray

from ..core.settings import Diversify
from .encoder import Vectors
from .ranked import Ranked

Values = NDArray[np.float64]


def diversified(
    ranked: Ranked, vectors: Vectors, method: Diversify, relevance: float, k: int
) -> Ranked:
    """Choose k.

    Args:
        ranked: The candidates.
        vectors: Their dense vectors of unit length, a row each, in the same order.
        method: ``none`` keeps the best k.
        relevance: ``λ``, in [0, 1].
        k: How many, at most.
    """
    if method == "none" or not len(ranked.ids):
        return ranked.top(k)
    cosines = np.maximum(vectors @ vectors.T, 0.0).astype(np.float64)
    chosen, added = _GREEDY[method](unit_scores(ranked), cosines, relevance, k)
    return Ranked(ranked.ids[chosen], added.astype(np.float32))


def unit_scores(ranked: Ranked) -> Values:
    """Return the scores between 0, the lowest, and 1, the highest; all 1 if they are equal."""
    scores = ranked.scores.astype(np.float64)
    low, spread = scores.min(), np.ptp(scores)
    return (scores - low) / spread if spread > 0 else np.ones(len(scores))


def mmr(
    relevances: Values, cosines: Values, weight: float, k: int
) -> tuple[NDArray[np.intp], Values]:
    """Choose by maximal marginal relevance.

    Args:
        relevances: Shape ``(n,)``; of equal candidates the first is chosen.
        cosines: Shape ``(n, n)``, not negative.
        weight: ``λ``.
        k: How many, at most.

    Returns:
        Positions in the order of choice, and what each had when it was chosen.
    """
    nearest = np.zeros(len(relevances))
    left = np.ones(len(relevances), dtype=bool)
    chosen, added = [], []
    for _ in range(min(k, len(relevances))):
        values = np.where(left, weight * relevances - (1 - weight) * nearest, -np.inf)
        best = int(values.argmax())
        chosen.append(best)
        added.append(values[best])
        left[best] = False
        nearest = np.maximum(nearest, cosines[best])
    return np.array(chosen, np.intp), np.array(added)


def coverage(
    relevances: Values, cosines: Values, weight: float, k: int
) -> tuple[NDArray[np.intp], Values]:
    """Choose greedily by facility location; see :func:`mmr` for arguments and results."""
    covered = np.zeros(len(relevances))
    left = np.ones(len(relevances), dtype=bool)
    chosen, added = [], []
    for _ in range(min(k, len(relevances))):
        gains = relevances @ np.maximum(cosines - covered[:, None], 0.0)
        values = np.where(left, weight * relevances + (1 - weight) * gains, -np.inf)
        best = int(values.argmax())
        chosen.append(best)
        added.append(values[best])
        left[best] = False
        covered = np.maximum(covered, cosines[:, best])
    return np.array(chosen, np.intp), np.array(added)


def coverage_value(
    chosen: NDArray[np.intp], relevances: Values, cosines: Values, weight: float
) -> float:
    """Return ``f(S)``."""
    best = cosines[:, chosen].max(axis=1, initial=0.0)
    return float(weight * relevances[chosen].sum() + (1 - weight) * relevances @ best)


_GREEDY = {"mmr": mmr, "coverage": coverage}
