"""The gate: a candidate serves only if it is shown to be better on queries it never saw.

Four conditions, all of them numbers in the verdict. The trained retriever gains significantly on
the held-out queries, at a level corrected for the candidates that looked at them before. The other
retrievers that share the encoder do not lose there. The trained one does not lose on the held-out
queries that are unlike what was trained (see ``splits``). Nothing forgets: on the guard queries
(see ``guard``) every retriever's interval stays above a margin. Losses are tested at 95 % whatever
the number of candidates, for a stricter level there would let more harm through.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from ...core.settings import GateSettings, GateTest
from ...core.significance import (
    corrected_confidence,
    paired_bootstrap,
    randomisation_p,
    resamples_for,
)

Verdict = Literal["promoted", "kept"]

METRIC = "nDCG@10"

FEWEST = 8
"""Queries of a part below which it decides nothing; it is reported all the same."""


class Measured(BaseModel):
    """One retriever before and after, on the same queries."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    retriever: str
    metric: str = METRIC
    before: float
    after: float
    difference: float
    low: float
    """Lower end of the bootstrap interval of the difference, of the confidence below."""
    high: float
    p: float
    """Two-sided, of the test below."""
    queries: int
    confidence: float = 0.95
    test: GateTest = "bootstrap"

    @property
    def better(self) -> bool:
        """Whether the gain is significant."""
        return self.difference > 0 and self._significant

    @property
    def worse(self) -> bool:
        """Whether the loss is significant."""
        return self.difference < 0 and self._significant

    @property
    def _significant(self) -> bool:
        if self.test == "randomisation":
            return self.p <= 1 - self.confidence + 1e-12
        return self.low > 0 or self.high < 0


class Conditions(NamedTuple):
    """What the gate decides by, beside the trained retriever's own figures."""

    others: Sequence[Measured] = ()
    """Retrievers that the change touches, the trained one too, at 95 %."""
    extrapolation: Measured | None = None
    """The trained retriever, on held-out queries unlike what was trained."""
    guard: Sequence[Measured] = ()
    """Every retriever, on queries that must not be lost."""
    margin: float = GateSettings().margin
    """How far below zero a guard's interval may reach."""
    candidate: int = 1
    """Its number among those measured since what serves was promoted."""
    accept_equal: bool = False


def compare(
    retriever: str,
    before: Sequence[float],
    after: Sequence[float],
    *,
    candidate: int = 1,
    test: GateTest = "randomisation",
) -> Measured:
    """Compare per-query scores at the level of the n-th candidate.

    Args:
        retriever: Whose scores they are.
        before: Of what serves, one a query.
        after: Of the candidate, in the same order.
        candidate: n; Bonferroni's correction leaves each of n candidates an n-th of 5 %.
        test: ``randomisation`` is exact however few the queries are. The percentile bootstrap is
            not: of candidates that change nothing but the luck of 8 queries it passed 2.0 % at
            the 1 % level.
    """
    confidence = corrected_confidence(candidate)
    found = paired_bootstrap(before, after, confidence=confidence)
    p = found.p
    if test == "randomisation":
        p = randomisation_p(before, after, resamples=resamples_for(confidence))
    return Measured(
        retriever=retriever,
        before=found.before,
        after=found.after,
        difference=found.difference,
        low=found.low,
        high=found.high,
        p=p,
        queries=found.queries,
        confidence=confidence,
        test=test,
    )


def decide(trained: Measured, conditions: Conditions | None = None) -> tuple[Verdict, str]:
    """Give the verdict and its reason in one sentence.

    Args:
        trained: The retriever that was trained.
        conditions: What else must hold.
    """
    asked = conditions or Conditions()
    if harm := _harm(trained, asked):
        return "kept", harm
    size = f"{trained.difference:+.3f} {METRIC} by {trained.retriever}"
    level = f"at {_percent(trained.confidence)} ({_which(asked.candidate)}, {_evidence(trained)})"
    if trained.better:
        return "promoted", f"{size}, significant {level}"
    if asked.accept_equal:
        return "promoted", f"{size} is not significant {level}; equal was accepted"
    return "kept", f"{size} is not significant {level}"


def _harm(trained: Measured, asked: Conditions) -> str | None:
    """Say what the candidate would break, the first that is found."""
    if trained.worse:
        return f"the candidate loses {_loss(trained)}"
    for other in asked.others:
        if other.worse:
            return f"{other.retriever} search would lose {_loss(other)}"
    unlike = asked.extrapolation
    if unlike and unlike.worse and unlike.queries >= FEWEST:
        return f"extrapolation: on queries unlike what was trained it loses {_loss(unlike)}"
    for guard in asked.guard:
        if guard.low <= -asked.margin:
            return (
                f"forgets: {guard.difference:+.3f} {METRIC} by {guard.retriever} on guard queries; "
                f"the interval reaches {guard.low:+.3f}, must stay above {-asked.margin:+.3f} "
                f"({guard.queries} queries)"
            )
    return None


def _loss(found: Measured) -> str:
    return f"{-found.difference:.3f} {METRIC} ({_evidence(found)}, {found.queries} queries)"


def _evidence(found: Measured) -> str:
    return f"p = {found.p:.2g}, {found.low:+.3f} to {found.high:+.3f}"


def _percent(confidence: float) -> str:
    return f"{100 * confidence:.4g} %"


def _which(candidate: int) -> str:
    return f"candidate {candidate} since what serves was promoted"
