"""Pooling of token similarities: how a query token's score comes from all tokens of a passage.

MaxSim takes the best; it hands the whole score to one token, which a hostile passage can supply.
The mean of the best k and a softmax-weighted mean spread it (arXiv 2604.05253). Training pools with
torch by the same formulas (``training/scoring.py``).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.settings import LatePooling, Settings
from .encoder import Vectors


class Pooling(NamedTuple):
    """Which pooling, with its parameters."""

    kind: LatePooling = "max"
    k: int = 4
    """Of ``topk``: how many of the best are averaged, or all where a passage has fewer tokens."""
    temperature: float = 0.1
    """Of ``softmax``, in units of a cosine: towards 0 it is the best, towards infinity the mean."""

    @classmethod
    def of(cls, settings: Settings) -> "Pooling":
        """Take what the settings say."""
        return cls(settings.late_pooling, settings.late_top_k, settings.late_temperature)


def pool(similarities: Vectors, pooling: Pooling) -> Vectors:
    """Pool over a passage's tokens.

    Args:
        similarities: Shape ``(tokens, query tokens)``, at least one token.
        pooling: How.

    Returns:
        Shape ``(query tokens,)``; their sum is the passage's score.
    """
    if pooling.kind == "max":
        return similarities.max(axis=0)
    if pooling.kind == "topk":
        k = min(pooling.k, len(similarities))
        return np.partition(similarities, -k, axis=0)[-k:].mean(axis=0)
    weights = np.exp((similarities - similarities.max(axis=0)) / np.float32(pooling.temperature))
    return (weights * similarities).sum(axis=0) / weights.sum(axis=0)


def pool_each(similarities: Vectors, starts: NDArray[np.int64], pooling: Pooling) -> Vectors:
    """Pool over the tokens of several passages, which lie end to end.

    Args:
        similarities: Shape ``(tokens, query tokens)``.
        starts: Rows at which the passages begin, each with at least one token.
        pooling: How.

    Returns:
        Shape ``(passages, query tokens)``.
    """
    if pooling.kind == "max":
        return np.maximum.reduceat(similarities, starts, axis=0)
    return np.stack([pool(part, pooling) for part in np.split(similarities, starts[1:])])
