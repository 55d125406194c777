"""Expansion: the passages nearest to the best candidates become candidates too.

The nearest-neighbour graph over passages (graph-augmented retrieval, arXiv 2507.19715) is not
stored: its few edges that a query needs are found by the dense engine of the generation that is
searched, so that they follow what was added and removed, and what a filter does not admit is never
reached. What joins is scored like every candidate, by all three retrievers.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from .encoder import Vectors
from .ranked import Ranked

SEEDS = 10
"""Best candidates whose neighbours are looked at."""

MOST_NEIGHBOURS = 100
"""Of each; as the settings bound them."""

Ids = NDArray[np.int64]


def neighbours(
    vectors: Vectors, count: int, nearest: Callable[[Vectors, int], Ranked], known: Ids
) -> Ids:
    """Return the passages nearest to each of some, without those that are known.

    Args:
        vectors: Dense vectors of the passages to start from, which are known, a row each.
        count: Neighbours of each, at most.
        nearest: Finds so many passages nearest to a vector.
        known: Row ids of the candidates.

    Returns:
        Row ids, rising.
    """
    # Each is nearest to itself.
    found = [nearest(vector, count + 1).ids for vector in vectors]
    return np.setdiff1d(np.concatenate([known[:0], *found]), known)


def joined(some: Mapping[str, Ranked], others: Mapping[str, Ranked]) -> dict[str, Ranked]:
    """Return rankings of two disjoint sets of candidates as rankings of both.

    >>> first, second = {"a": Ranked.of([1, 2], [0.9, 0.1])}, {"a": Ranked.of([5], [0.5])}
    >>> joined(first, second)["a"].ids.tolist()
    [1, 5, 2]
    """
    return {
        name: Ranked.of(
            np.concatenate([ranked.ids, others[name].ids]),
            np.concatenate([ranked.scores, others[name].scores]),
        )
        for name, ranked in some.items()
    }
