"""What mining is asked for reaches the rows that are trained on, through the whole of learning."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from retrail.agents import Workspace
from retrail.core import Level
from retrail.retrievers.training import (
    Example,
    Hyperparameters,
    LearnReport,
    MiningOptions,
    trainer,
)
from retrail.retrievers.training.guards import TEACHER
from retrail.retrievers.training.rows import Row

QUICK = Hyperparameters(mode="adapter", epochs=1, negatives=4)


class Trained(NamedTuple):
    report: LearnReport
    examples: Sequence[Example]
    rows: list[Row]


@pytest.fixture
def trained(
    copied: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Trained]:
    """Learn for real, and tell the examples and rows that were trained on."""

    def learn(hyper: Hyperparameters = QUICK, **mining: Any) -> Trained:
        seen: list[Any] = []
        select = trainer.select_rows

        def watched(examples: Sequence[Example], *more: Any) -> Any:
            rows, known = select(examples, *more)
            seen.extend((examples, rows))
            return rows, known

        monkeypatch.setattr(trainer, "select_rows", watched)
        with Workspace.open(copied(str(sorted(mining.items())))) as kb:
            report = kb.learn(hyper=hyper, mining=MiningOptions(**mining))
            card = kb.models()[0]
        assert card.mining.items() >= MiningOptions(**mining).model_dump().items()
        examples, rows = seen
        assert report.examples == len(examples) == len(rows)
        return Trained(report, examples, rows)

    return learn


def test_levels_are_the_grades_of_rows(trained):
    found = trained(QUICK.model_copy(update={"loss": "listwise"}))
    for row, example in zip(found.rows, found.examples, strict=True):
        assert row.grades[0] == example.level / 3
        wanted = [example.judged[i].level / 3 for i in example.negatives]
        assert row.grades[1 : 1 + len(wanted)] == wanted
        assert wanted[0] == Level.REJECTED / 3
        assert set(wanted[1:]) == {0.0}
        assert row.against == [1.0] * 5
    assert {row.grades[0] for row in found.rows} == {2 / 3, 1.0}


def test_what_was_hardly_seen_counts_less_as_a_negative(trained):
    rows = trained(examined=True).rows
    sure = [weight for row in rows for weight in row.against[row.positives :]]
    assert 0 < min(sure) < 0.5
    assert max(sure) == 1.0
    assert all(row.against[0] == 1.0 for row in rows)


def test_the_teacher_strikes_out_negatives(trained):
    plain, masked = trained(), trained(teacher=0.9)
    struck = masked.report.dropped[TEACHER]
    before, after = (sum(len(e.negatives) for e in each.examples) for each in (plain, masked))
    assert struck > 0
    assert after < before
    for row, example in zip(masked.rows, masked.examples, strict=True):
        assert tuple(row.passages[1 : 1 + len(example.negatives)]) == example.negatives[:4]


@pytest.mark.parametrize("kind", ["thought", "dwell"])
def test_intensity_weighs_rows(trained, kind):
    found = trained(intensity=kind)
    weights = {example.positive: example.weight for example in found.examples}
    assert [row.weight for row in found.rows] == [weights[row.passages[0]] for row in found.rows]
    assert len({round(weight, 6) for weight in weights.values()}) > 4


def test_openings_that_were_brief_teach_nothing(trained):
    plain, patient = trained(), trained(dwell=30)
    assert 0 < len(patient.rows) < len(plain.rows)
    assert patient.report.dropped["openings that nobody judged"] > 0
    assert "rejected" not in patient.report.signals


def test_whole_questions_are_rows(trained):
    queries = [row.query for row in trained(questions="useful").rows]
    whole = [query for query in queries if query.startswith("Which sighting")]
    assert len(whole) == len(queries) / 2
    cited = [row.query for row in trained(questions="cited").rows]
    assert 0 < len([q for q in cited if q.startswith("Which")]) < len(whole)


def test_queries_behind_their_thoughts_are_rows(trained):
    queries = [row.query for row in trained(reasoning=True).rows]
    plain = {query for query in queries if not query.startswith("Reasoning: ")}
    assert {f"Reasoning: I look for the sighting.\n\nQuery: {q}" for q in plain} < set(queries)
    assert len(queries) == 2 * len(plain)
