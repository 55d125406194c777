"""Mining a corpus of runs: guards, weights, further rows, and the faults of a released builder."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from retrail.core import AgentInfo, HitRecord, Level, Observation, Signal, Step, Trajectory
from retrail.memory.formats import read_runs
from retrail.memory.transfer import Tally
from retrail.retrievers.training import (
    Hyperparameters,
    Mined,
    MiningOptions,
    Opening,
    Opinion,
    build_examples,
    mine_all,
)
from retrail.retrievers.training.augment import augmented
from retrail.retrievers.training.examples import Example
from retrail.retrievers.training.guards import OTHER_RUNS, TEACHER, spare_false_negatives
from retrail.retrievers.training.intensity import intensities
from retrail.retrievers.training.rows import build_rows
from retrail.retrievers.training.signals import NEAREST

GOOD, BAD = "This gives the year.", "That is not relevant."
Event = tuple[Any, ...]
"""``(query, documents)`` or ``(document, thought, dwell)``."""


def run(*events: Event, question: str = "Who?", name: str = "run") -> Trajectory:
    """Write events as steps; a thought stands in the step after the opening it is about."""
    steps: list[Step] = []
    thought: str | None = "Begin."
    for n, event in enumerate(events, 1):
        if len(event) == 2:
            query, docs = event
            hits = [HitRecord(passage_id=f"{d}#0", doc_id=d, rank=r) for r, d in enumerate(docs, 1)]
            args, seen, after = {"query": query}, Observation(hits=hits), "Go on."
            action: Any = "search"
        else:
            doc, after, dwell = event
            action, args, seen = "browse", {}, Observation(doc_id=doc, dwell_ms=dwell)
        steps.append(Step(n=n, at="", action=action, args=args, observation=seen, thought=thought))
        thought = after
    steps.append(Step(n=len(steps) + 1, at="", action="answer", thought=thought))
    return Trajectory(id=name, question=question, agent=AgentInfo(planner="t"), steps=steps)


def levels(mined: Mined) -> list[dict[tuple[str, str], Level]]:
    return [{(s.query, s.doc_id): s.level for s in signals} for _, signals in mined.runs]


def weights(mined: Mined) -> dict[str, float]:
    return {s.doc_id: s.weight for _, signals in mined.runs for s in signals}


# --- faults of the released builder (methods of arXiv 2604.04949)


def test_weights_reach_the_rows_that_the_loss_reads():
    mined = mine_all(
        [run(("q", "abc"), ("a", GOOD, None), ("b", GOOD + GOOD, None))],
        options=MiningOptions(intensity="thought"),
    )
    rows = build_rows(
        build_examples(mined.runs), lambda names: {n: n for n in names}, [*"xyzuvw"],
        Hyperparameters(negatives=2),
    )  # fmt: skip
    by_passage = {row["positive"]: row["label"][0] for row in rows}
    assert by_passage == pytest.approx({f"{d}#0": weights(mined)[d] for d in "ab"})
    assert by_passage["a#0"] < by_passage["b#0"]


def test_a_useful_document_with_nothing_against_it_is_a_row_all_the_same():
    mined = mine_all([run(("q", "a"), ("a", GOOD, None))])
    (example,) = build_examples(mined.runs)
    assert example.negatives == ()
    (row,) = build_rows(
        [example], lambda names: {n: n for n in names}, [*"xyzuvw"], Hyperparameters(negatives=2)
    )
    assert {row["negative_0"], row["negative_1"]} < {*"xyzuvw"}


def test_what_was_rejected_is_never_a_positive():
    mined = mine_all([run(("q", "abc"), ("a", BAD, None), ("b", GOOD, None))])
    (example,) = build_examples(mined.runs)
    assert (example.positive, example.negatives[0]) == ("b#0", "a#0")


def test_a_judge_that_fails_says_neither_yes_nor_no():
    def broken(openings: Sequence[Opening]) -> list[Opinion]:
        return [Opinion.FAILED if o.doc_id == "a" else Opinion.USEFUL for o in openings]

    mined = mine_all([run(("q", "abc"), ("a", BAD, None), ("b", GOOD, None))], broken)
    assert levels(mined) == [{("q", "b"): Level.USEFUL, ("q", "c"): Level.UNOPENED}]
    assert mined.report.dropped == {"openings whose judge failed": 1}


def test_a_judge_must_judge_every_opening():
    with pytest.raises(ValueError, match="shorter"):
        mine_all([run(("q", "ab"), ("a", GOOD, None))], lambda openings: [])


def test_the_judge_reads_the_openings_of_many_runs_together_once_each():
    asked: list[int] = []

    def judge(openings: Sequence[Opening]) -> list[Opinion]:
        asked.append(len(openings))
        return [Opinion.USEFUL] * len(openings)

    mine_all((run(("q", "ab"), ("a", GOOD, None), question=str(n)) for n in range(130)), judge)
    assert asked == [64, 64, 2]


# --- guards


def test_what_another_run_of_the_question_found_useful_is_no_negative():
    runs = [
        run(("q", "abc"), ("a", GOOD, None), question="Who built it?", name="one"),
        run(("p", "abc"), ("b", GOOD, None), ("c", BAD, None), question="who BUILT it", name="two"),
        run(("q", "abc"), ("c", GOOD, None), question="Something else", name="three"),
    ]
    mined = mine_all(runs)
    assert levels(mined) == [
        {("q", "a"): Level.USEFUL, ("q", "c"): Level.UNOPENED},
        {("p", "b"): Level.USEFUL, ("p", "c"): Level.REJECTED},
        {("q", "c"): Level.USEFUL, ("q", "a"): Level.UNOPENED, ("q", "b"): Level.UNOPENED},
    ]
    assert mined.report.dropped == {OTHER_RUNS: 2}
    assert mined.report.levels.total() == sum(len(signals) for _, signals in mined.runs)


def test_a_run_alone_may_count_against_itself():
    """Read for the first query, and passed over under the second, where it does not help."""
    mined = mine_all([run(("q", "ab"), ("a", GOOD, None), ("p", "ac"), ("c", GOOD, None))])
    assert levels(mined)[0]["p", "a"] == Level.UNOPENED


def test_the_teacher_strikes_out_what_scores_too_near():
    angles = {"p": 0.0, "near": 0.4, "far": 1.3}
    vectors = {
        n: SimpleNamespace(dense=np.array([math.cos(a), math.sin(a)])) for n, a in angles.items()
    }

    def struck(ratio: float) -> tuple[tuple[str, ...], Counter[str]]:
        dropped: Counter[str] = Counter()
        (left,) = spare_false_negatives(
            [Example("g", "q", "p", ("near", "far", "gone"), 1.0)],
            lambda _: vectors["p"],  # type: ignore[arg-type, return-value]
            lambda names: {n: vectors[n] for n in names if n in vectors},  # type: ignore[misc]
            ratio,
            dropped,
        )
        return left.negatives, dropped

    assert struck(0.6) == (("far", "gone"), {TEACHER: 1})
    assert struck(0.95) == (("near", "far", "gone"), {})
    assert struck(0.1) == (("gone",), {TEACHER: 2})


def test_below_the_last_opened_rank_a_document_counts_less():
    runs = [
        run(("q", "abcd"), ("b", GOOD, None), name="one"),
        run(("p", "efgh"), ("h", GOOD, None), name="two", question="Other?"),
        run(("o", "ijkl"), name="three", question="Third?"),
    ]
    found = weights(mine_all(runs, options=MiningOptions(examined=True)))
    # Two of the three lists were opened to rank 2 or deeper, one to rank 3 and to rank 4.
    assert found == pytest.approx(
        {"a": 1, "b": 0.7, "c": 2 / 3, "d": 2 / 3, "e": 1, "f": 1, "g": 1, "h": 0.7}
    )
    assert set(weights(mine_all(runs)).values()) == {0.7, 1.0}


# --- intensity


def signals(count: int) -> list[Signal]:
    return [Signal("r", "q", f"d{n}", f"d{n}#0", Level.USEFUL, step=n) for n in range(count)]


@given(st.lists(st.floats(1e-3, 1e9), min_size=1, max_size=30), st.floats(0.01, 100))
def test_intensities_average_one_and_know_no_unit(amounts: list[float], unit: float):
    measured = dict(zip(signals(len(amounts)), amounts, strict=True))
    found = intensities(measured)
    assert sum(found.values()) / len(found) == pytest.approx(1)
    assert all(0 < value < 1 / (1 - 2**-1) + len(found) for value in found.values())
    scaled = intensities({signal: amount * unit for signal, amount in measured.items()})
    assert list(scaled.values()) == pytest.approx(list(found.values()))
    order = sorted(measured, key=lambda s: measured[s])
    assert [found[s] for s in order] == sorted(found.values())


def test_intensity_is_the_published_equation():
    found = list(intensities(dict(zip(signals(3), (1.0, 2.0, 4.0), strict=True))).values())
    raw = [1 - math.exp(-math.log(2) * amount / 2.0) for amount in (1, 2, 4)]
    assert found == pytest.approx([value / (sum(raw) / 3) for value in raw])
    outlier = list(intensities(dict(zip(signals(3), (1.0, 2.0, 4e9), strict=True))).values())
    assert outlier[2] / outlier[1] == pytest.approx(2)
    assert intensities({}) == {}


def test_dwell_weighs_what_was_measured_and_nothing_else():
    runs = [
        run(("q", "abcd"), ("a", None, 1000.0), ("b", None, 9000.0), ("c", None, 0.0)),
        run(("p", "ef"), ("e", GOOD, None), name="two", question="Other?"),
    ]
    found = weights(mine_all(runs, options=MiningOptions(intensity="dwell")))
    assert 0 < found["c"] < 0.01 < found["a"] < found["b"]
    assert found["a"] + found["b"] + found["c"] == pytest.approx(2.1)
    assert (found["e"], found["d"]) == (0.7, 1.0)


# --- further rows


def queries(mined: Mined) -> dict[str, set[str]]:
    rows = augmented(mined.runs, mined.thoughts, mined.options)
    made: dict[str, set[str]] = {}
    for example in build_examples(rows):
        made.setdefault(example.query, set()).update(
            (f"+{example.positive[0]}", *example.negatives)
        )
    return made


def test_further_rows_are_made_of_thoughts_and_of_the_question():
    events = (("q", "abc"), ("a", GOOD, None), ("p", "def"), ("d", GOOD, None), ("e", BAD, None))
    mined = mine_all([run(*events)], options=MiningOptions(reasoning=True, questions="useful"))
    assert queries(mined) == {
        "Who?": {"+a", "+d", "b#0", "c#0", "e#0", "f#0"},
        "Reasoning: Begin.\n\nQuery: q": {"+a", "b#0", "c#0"},
        f"Reasoning: {GOOD}\n\nQuery: p": {"+d", "e#0", "f#0"},
    }
    cited = mine_all([run(*events)], options=MiningOptions(questions="cited"))
    assert queries(cited) == {}  # there was no answer
    assert queries(mine_all([run(*events)])) == {}
    asked = run(("who", "ab"), ("a", GOOD, None))
    assert queries(mine_all([asked], options=MiningOptions(questions="useful"))) == {}


def test_options_are_closed():
    for wrong in ({"judge": "vibes"}, {"teacher": 0}, {"unknown": 1}, {"intensity": "mood"}):
        with pytest.raises(ValidationError):
            MiningOptions.model_validate(wrong)


# --- real logs and size


@pytest.mark.parametrize(
    ("log", "kind"),
    [("wiki_agent/runs.jsonl.gz", "thought"), ("trec_session_2013/trajectories.jsonl.gz", "dwell")],
)
def test_logs_of_agents_and_of_people(shared_data: Path, log: str, kind: Any):
    lines = read_runs([shared_data / "trajectories" / log], Tally())
    found = [each.content.trajectory for each in lines if not isinstance(each.content, str)]
    options = MiningOptions(intensity=kind, examined=True, reasoning=True, questions="useful")
    plain, mined = mine_all(found), mine_all(found, options=options)
    assert mined.report == plain.report
    assert mined.report.used > 0.9 * len(found)
    old = [s for _, signals in plain.runs for s in signals]
    new = [s for _, signals in mined.runs for s in signals]
    assert [replace(s, weight=0) for s in old] == [replace(s, weight=0) for s in new]
    measured = [s.weight / 0.7 for s in new if s.level == Level.USEFUL]
    assert sum(measured) / len(measured) == pytest.approx(1)
    assert len({round(w, 6) for w in measured}) > 10
    assert all(0 < s.weight <= 1 for s in new if s.level == Level.UNOPENED)
    rows = augmented(mined.runs, mined.thoughts, options)
    assert build_examples(rows)


def test_the_work_is_linear_in_the_steps_of_a_run():
    """Tens of thousands of steps in which nothing helps; in the end, much does."""
    lists = [(f"q{n}", [f"{n}", f"{n}b", f"{n}c"]) for n in range(20_000)]
    rejected = [event for each in lists for event in (each, (each[1][0], BAD, None))]
    found = [(docs[1], GOOD, None) for _, docs in lists[::40]]
    mined = mine_all([run(*rejected, *found)])
    (_, signals), last = mined.runs[0], lists[-40][0]
    assert len([s for s in signals if s.level == Level.USEFUL]) == len(found)
    assert len([s for s in signals if s.query == last]) <= NEAREST + 2
    assert mined.report.dropped[f"passed over before the nearest {NEAREST}"] > 1_000_000


def by(caller: str, *events: Event, name: str) -> Trajectory:
    told = run(*events, question=f"Question {name}?", name=name)
    return told.model_copy(update={"agent": AgentInfo(planner="t", caller=caller)})


def test_no_source_outweighs_another_by_long_thoughts():
    short, long = "Good.", "Good, " * 3_000
    runs = [
        by(who, (f"q{who}{n}", [f"{who}{n}", "x"]), (f"{who}{n}", said, None), name=f"{who}{n}")
        for who, said in (("honest", short), ("loud", long))
        for n in range(20)
    ]
    found = weights(mine_all(runs, options=MiningOptions(intensity="thought")))
    totals = [sum(w for d, w in found.items() if d.startswith(who)) for who in ("honest", "loud")]
    assert totals[0] == pytest.approx(totals[1])
