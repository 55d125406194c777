"""The gate's decision: its table, its level over many candidates, and what it counts as harm."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from retrail.core.settings import GateSettings
from retrail.core.significance import corrected_confidence, paired_bootstrap, resamples_for
from retrail.retrievers.training import Card, Conditions, Measured, Registry, compare, decide
from retrail.retrievers.training.gate import FEWEST
from retrail.retrievers.training.held_gate import judge
from retrail.retrievers.training.query_types import query_types
from retrail.retrievers.training.trial import Tried


def measured(retriever: str, low: float, high: float, queries: int = 30) -> Measured:
    middle = (low + high) / 2
    return Measured(
        retriever=retriever,
        before=0.5,
        after=0.5 + middle,
        difference=middle,
        low=low,
        high=high,
        p=0.01 if low > 0 or high < 0 else 0.5,
        queries=queries,
        test="randomisation",
    )


GAIN, EQUAL, LOSS = (0.02, 0.1), (-0.01, 0.03), (-0.1, -0.02)
FEW = (-0.2, -0.1, FEWEST - 1)


@pytest.mark.parametrize(
    ("dense", "late", "unlike", "guard", "accept_equal", "verdict", "reason"),
    [
        (GAIN, GAIN, GAIN, EQUAL, False, "promoted", "+0.060 nDCG@10 by dense, significant at"),
        (GAIN, EQUAL, EQUAL, EQUAL, False, "promoted", "at 95 % (candidate 3 since what serves"),
        (GAIN, LOSS, GAIN, EQUAL, False, "kept", "late search would lose 0.060 nDCG@10 (p = 0.01"),
        (GAIN, LOSS, GAIN, EQUAL, True, "kept", "late search would lose 0.060"),
        (GAIN, GAIN, LOSS, EQUAL, True, "kept", "extrapolation: on queries unlike what was trai"),
        (GAIN, GAIN, FEW, EQUAL, False, "promoted", "significant"),
        (GAIN, GAIN, GAIN, LOSS, True, "kept", "forgets: -0.060 nDCG@10 by dense on guard querie"),
        (GAIN, GAIN, GAIN, (-0.05, 0.1), False, "kept", "reaches -0.050, must stay above -0.050"),
        (GAIN, GAIN, GAIN, None, False, "promoted", "significant"),
        (EQUAL, GAIN, EQUAL, EQUAL, False, "kept", "+0.010 nDCG@10 by dense is not significant"),
        (EQUAL, EQUAL, EQUAL, EQUAL, True, "promoted", "equal was accepted"),
        (LOSS, EQUAL, EQUAL, EQUAL, True, "kept", "the candidate loses 0.060"),
        (LOSS, GAIN, GAIN, LOSS, False, "kept", "the candidate loses 0.060"),
    ],
)
def test_the_gate(dense, late, unlike, guard, accept_equal, verdict, reason):
    conditions = Conditions(
        others=[measured("dense", *dense), measured("late", *late)],
        extrapolation=measured("dense", *unlike),
        guard=[measured("dense", *guard)] if guard else [],
        candidate=3,
        accept_equal=accept_equal,
    )
    given_verdict, said = decide(measured("dense", *dense), conditions)
    assert given_verdict == verdict
    assert reason in said


def test_by_itself_a_gain_is_enough():
    assert decide(measured("dense", *GAIN))[0] == "promoted"
    assert decide(measured("dense", *EQUAL))[0] == "kept"


@pytest.mark.parametrize("candidate", [1, 5])
@pytest.mark.parametrize("queries", [8, 40])
def test_chance_opens_the_gate_at_most_at_its_level(candidate, queries):
    """Candidates that change scores at random: half of them gain, few of these significantly."""
    rng = np.random.default_rng(candidate * 100 + queries)
    trials, opened = 400, 0
    for _ in range(trials):
        sizes = rng.choice([0.0, 0.37, 0.5, 1.0], queries)
        change = sizes * rng.choice([-1, 1], queries)
        found = compare("dense", [0.0] * queries, change.tolist(), candidate=candidate)
        opened += decide(found, Conditions(candidate=candidate))[0] == "promoted"
    level = 0.05 / candidate / 2  # of the two sides only gains open it
    assert opened / trials <= level + 2 * (level / trials) ** 0.5
    sure = compare("dense", [0.0] * queries, [0.5] * queries, candidate=candidate)
    assert decide(sure, Conditions(candidate=candidate))[0] == "promoted"


def test_many_candidates_together_open_it_as_rarely_as_one():
    """Rounds of 8 candidates that change nothing but luck: any of them opening it is a mistake."""
    rng = np.random.default_rng(0)
    rounds, fooled, uncorrected = 60, 0, 0
    for _ in range(rounds):
        changes = [rng.normal(0, 0.3, 30).tolist() for _ in range(8)]
        found = [compare("dense", [0.0] * 30, c, candidate=8) for c in changes]
        fooled += any(each.better for each in found)
        uncorrected += any(each.p <= 0.05 and each.difference > 0 for each in found)
    assert fooled / rounds <= 0.06
    assert uncorrected > 2 * max(1, fooled)


@given(st.integers(1, 400))
def test_the_level_falls_with_the_number_of_candidates(candidate):
    confidence = corrected_confidence(candidate)
    assert confidence == pytest.approx(1 - 0.05 / candidate)
    beyond = resamples_for(confidence) * (1 - confidence) / 2
    assert beyond >= 100 - 1e-6 or resamples_for(confidence) == 400_000


def test_a_stricter_level_gives_a_wider_interval():
    rng = np.random.default_rng(1)
    before, after = rng.random(50).tolist(), rng.random(50).tolist()
    first, tenth = (compare("late", before, after, candidate=n) for n in (1, 10))
    assert tenth.low < first.low < first.high < tenth.high
    assert (first.confidence, tenth.confidence) == (0.95, 0.995)
    plain = paired_bootstrap(before, after)
    assert (first.low, first.high) == (plain.low, plain.high)
    assert compare("late", before, after, test="bootstrap").p == plain.p


def test_cards_of_earlier_versions_can_be_read():
    """Their figures have neither level nor test: 95 %, by the interval."""
    old = {"retriever": "dense", "before": 0.1, "after": 0.3, "difference": 0.2, "queries": 9}
    found = Measured.model_validate(old | {"low": 0.1, "high": 0.3, "p": 0.3})
    assert (found.better, found.worse, found.confidence) == (True, False, 0.95)


def tried(part: Any, before: float, after: float, late: float | None = None) -> Tried:
    scores = {by: (before, after) for by in ("dense", "late", "hybrid")}
    if late is not None:
        scores["late"] = (before, late)
    best = {by: (["a"], ["b"]) for by in scores}
    return Tried(query="q", relevant={"b": 1}, types={}, scores=scores, best=best, part=part)


def test_parts_are_judged_apart():
    near = [tried("interpolation", 0.2, 1.0)] * 30
    far = [tried("extrapolation", 0.8, 0.6)] * 10
    good = [tried("extrapolation", 0.6, 0.8)] * 10
    kept = judge([*near, *far], GateSettings())
    assert (kept.verdict, kept.reason[:13]) == ("kept", "extrapolation")
    promoted = judge([*near, *good, *[tried("guard", 0.5, 0.5)] * 60], GateSettings())
    assert promoted.verdict == "promoted"
    assert [m.queries for m in promoted.measured] == [40] * 3
    assert [m.queries for m in promoted.guard] == [60] * 3
    assert promoted.measured[0].before == pytest.approx(0.3)
    forgetful = [tried("guard", 0.5, 0.5), tried("guard", 0.5, 0.5, late=0.3)] * 30
    assert "forgets: -0.100 nDCG@10 by late" in judge([*near, *forgetful], GateSettings()).reason
    wide = GateSettings(margin=0.2)
    assert judge([*near, *forgetful], wide).verdict == "promoted"


def test_the_retriever_that_was_trained_must_gain():
    queries = [tried("interpolation", 0.5, 0.5, late=0.9)] * 20
    assert judge(queries, GateSettings()).verdict == "kept"
    assert judge(queries, GateSettings(), trained="late").verdict == "promoted"


def test_losses_are_looked_for_at_95_percent_whatever_the_candidate():
    """Nine of ten lose: p = 0.021, a loss at 95 % and nothing at the level of candidate 10."""
    queries = [tried("interpolation", 0.5, 0.9, late=0.3)] * 9
    queries += [tried("interpolation", 0.5, 0.9, late=0.7)]
    found = judge(queries, GateSettings(), candidate=10)
    assert (found.candidate, found.measured[0].confidence) == (10, 0.995)
    assert found.reason.startswith("late search would lose")


def card(version: int, *, queries: int = 9) -> Card:
    return Card(
        name="dense",
        version=version,
        created_at="2026-11-20T09:00:00.000Z",
        parent="p",
        fingerprint="f",
        code_version="0",
        trajectories=[],
        data_hash="h",
        hyperparameters={},
        signals={},
        examples=1,
        measured=[measured("dense", *EQUAL)] if queries else [],
        verdict="kept",
        reason="",
    )


def test_candidates_are_counted_since_what_serves(tmp_path):
    registry = Registry(tmp_path)
    assert registry.candidate("all-MiniLM-L6-v2") == 1
    for version in (1, 2, 3, 4):
        registry.reserve()
        registry.register(card(version, queries=version != 4))
    assert registry.candidate("all-MiniLM-L6-v2") == 4
    assert registry.candidate("models/dense/0002") == 2
    assert registry.candidate("models/dense/0004") == 1


@pytest.mark.parametrize(
    ("query", "types"),
    [
        ("Who wrote it?", ("who", "1 to 4 words", "plain")),
        (
            "Is Muse older than Blur and both from Devon?",
            ("yes or no", "5 to 9 words", "comparison"),
        ),
        ("frog songs", ("none", "1 to 4 words", "plain")),
        (
            "In what year was the author of the book that won the prize born?",
            ("what", "10 words or more", "nested"),
        ),
        ("", ("none", "1 to 4 words", "plain")),
    ],
)
def test_types_of_queries(query, types):
    found = query_types(query, 1)
    assert tuple(found[way] for way in ("question word", "length", "reasoning")) == types
    assert query_types(query, 2)["relevant documents"] == "several"
