"""How sure is a mean, and is B better than A? Resampling over queries, with a seed.

Queries drawn again with replacement give the distribution of a mean, or of the mean difference of
two systems on the same queries (Efron & Tibshirani 1993; Sakai 2006 for retrieval). Flipping which
system a query's scores belong to gives the distribution of that difference if both were equal
(Fisher's randomisation test; Smucker et al. 2007).
"""

from collections.abc import Iterator, Sequence
from itertools import product
from math import ceil
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_AT_ONCE = 4_000_000
"""Numbers drawn at a time, so that memory stays small."""

_RESAMPLES = 10_000
_BEYOND = 100
"""Samples wanted beyond either end of an interval, so that its ends are steady."""
_MOST = 400_000


class Interval(NamedTuple):
    """A mean over queries with its 95 % interval."""

    mean: float
    low: float
    high: float
    queries: int


class Comparison(NamedTuple):
    """The difference of two systems over the same queries."""

    before: float
    after: float
    difference: float
    low: float
    """Lower end of the interval of the difference; of 95 % unless told otherwise."""
    high: float
    """Upper end of the interval of the difference."""
    p: float
    """Two-sided bootstrap probability that there is no difference."""
    queries: int

    @property
    def significant(self) -> bool:
        """Whether the interval excludes zero."""
        return self.queries > 1 and (self.low > 0 or self.high < 0)


def bootstrap_interval(
    values: Sequence[float], *, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Return a mean and its percentile bootstrap interval.

    Args:
        values: One a query.
        resamples: Bootstrap samples.
        seed: Of the random generator.

    >>> bootstrap_interval([0.5, 0.5])
    Interval(mean=0.5, low=0.5, high=0.5, queries=2)
    """
    if not values:
        return Interval(0.0, 0.0, 0.0, 0)
    array = np.asarray(values, np.float64)
    low, high = np.quantile(_means(array, resamples, seed), [0.025, 0.975])
    return Interval(float(array.mean()), float(low), float(high), array.size)


def corrected_confidence(tests: int, level: float = 0.05) -> float:
    """Return the confidence of each of several tests that errs together at most at a level.

    Bonferroni's correction: ``1 - level / tests``.

    >>> corrected_confidence(1), corrected_confidence(4)
    (0.95, 0.9875)
    """
    return 1 - level / tests


def resamples_for(confidence: float) -> int:
    """Return how many samples a test of a confidence needs; 10,000 at 95 %.

    >>> resamples_for(0.95), resamples_for(0.995)
    (10000, 40000)
    """
    return min(_MOST, max(_RESAMPLES, ceil(round(2 * _BEYOND / (1 - confidence), 6))))


def paired_bootstrap(
    before: Sequence[float],
    after: Sequence[float],
    *,
    confidence: float = 0.95,
    resamples: int | None = None,
    seed: int = 0,
) -> Comparison:
    """Compare per-query scores of two systems.

    Args:
        before: Scores of the old system, one a query.
        after: Scores of the new system, in the same order.
        confidence: Of the interval.
        resamples: Bootstrap samples; as many as the confidence needs if not given.
        seed: Of the random generator.

    >>> paired_bootstrap([0.0, 0.5, 0.2], [1.0, 0.9, 0.8]).significant
    True
    """
    a, b = np.asarray(before, np.float64), np.asarray(after, np.float64)
    difference = _paired(before, after)
    if not a.size:
        return Comparison(0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0)
    means = _means(difference, resamples or resamples_for(confidence), seed)
    outside = (1 - confidence) / 2
    low, high = np.quantile(means, [outside, 1 - outside])
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


def randomisation_p(
    before: Sequence[float], after: Sequence[float], *, resamples: int = 10_000, seed: int = 0
) -> float:
    """Return the two-sided p-value of the paired randomisation test on the mean difference.

    Exact where all assignments are at most ``resamples``, else a Monte Carlo estimate, which counts
    the observed assignment and is never zero.

    >>> randomisation_p([0, 0, 0, 0], [1, 1, 1, 1])
    0.125
    """
    difference = _paired(before, after)
    if not difference.size:
        return 1.0
    observed = abs(difference.sum()) - 1e-12 * (1 + np.abs(difference).sum())
    exact = 2**difference.size <= resamples if difference.size < 63 else False
    signs = _all_signs(difference.size) if exact else _drawn_signs(difference.size, resamples, seed)
    extreme = sum(int((np.abs(drawn @ difference) >= observed).sum()) for drawn in signs)
    return extreme / 2**difference.size if exact else (extreme + 1) / (resamples + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for having asked several questions (Holm 1979), in the given order.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected = [0.0] * len(p_values)
    least = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        least = max(least, min(1.0, p_values[i] * (len(p_values) - rank)))
        corrected[i] = least
    return corrected


def _paired(before: Sequence[float], after: Sequence[float]) -> NDArray[np.float64]:
    a, b = np.asarray(before, np.float64), np.asarray(after, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"unequal numbers of queries: {a.size} and {b.size}")
    return b - a


def _means(values: NDArray[np.float64], resamples: int, seed: int) -> NDArray[np.float64]:
    """Return the means of bootstrap samples."""
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    step = max(1, _AT_ONCE // values.size)
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        drawn = rng.integers(0, values.size, (count, values.size))
        means[start : start + count] = values[drawn].mean(axis=1)
    return means


def _all_signs(size: int) -> Iterator[NDArray[Any]]:
    yield np.array(list(product((-1, 1), repeat=size)))


def _drawn_signs(size: int, resamples: int, seed: int) -> Iterator[NDArray[Any]]:
    rng = np.random.default_rng(seed)
    step = max(1, _AT_ONCE // size)
    for start in range(0, resamples, step):
        yield rng.integers(0, 2, (min(step, resamples - start), size)) * 2 - 1
