"""Is B better than A? Paired bootstrap over queries, with a seed and an interval.

Both systems are measured on the same queries; resampling queries with replacement gives the
distribution of the mean difference (Efron & Tibshirani 1993; Sakai 2006 for retrieval).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Comparison(NamedTuple):
    """The difference of two systems over the same queries."""

    before: float
    after: float
    difference: float
    low: float
    """Lower end of the 95 % interval of the difference."""
    high: float
    """Upper end of the 95 % interval of the difference."""
    p: float
    """Two-sided bootstrap probability that there is no difference."""
    queries: int

    @property
    def significant(self) -> bool:
        """Whether the interval excludes zero."""
        return self.queries > 1 and (self.low > 0 or self.high < 0)


def paired_bootstrap(
    before: Sequence[float], after: Sequence[float], *, resamples: int = 10_000, seed: int = 0
) -> Comparison:
    """Compare per-query scores of two systems.

    Args:
        before: Scores of the old system, one a query.
        after: Scores of the new system, in the same order.
        resamples: Bootstrap samples.
        seed: Of the random generator.

    >>> paired_bootstrap([0.0, 0.5, 0.2], [1.0, 0.9, 0.8]).significant
    True
    """
    a, b = np.asarray(before, np.float64), np.asarray(after, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"unequal numbers of queries: {a.size} and {b.size}")
    if not a.size:
        return Comparison(0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0)
    difference = b - a
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    step = max(1, 4_000_000 // a.size)
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        drawn = rng.integers(0, a.size, (count, a.size))
        means[start : start + count] = difference[drawn].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    tail = min((means <= 0).mean(), (means >= 0).mean())
    return Comparison(
        float(a.mean()),
        float(b.mean()),
        float(difference.mean()),
        float(low),
        float(high),
        float(min(1.0, 2 * tail)),
        int(a.size),
    )
