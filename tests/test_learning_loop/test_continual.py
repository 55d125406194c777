"""Continual evaluation: periods of a log, the forgetting matrix, and the example, in small."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from retrail.core import ConfigError
from retrail.evals.continual import ContinualTable, evaluate_periods, split_periods
from retrail.retrievers.training import Hyperparameters
from retrail.retrievers.training.examples import normalise

ROOT = Path(__file__).resolve().parents[2]


def test_periods_are_in_order_and_test_nothing_that_is_learned(sightings):
    periods = split_periods(reversed(sightings.runs), 3)
    assert [period.name for period in periods] == [
        "1: from 2026-01-01", "2: from 2026-01-22", "3: from 2026-02-15",
    ]  # fmt: skip
    learned = [run for period in periods for run in period.runs]
    tested = [item.query for period in periods for item in period.queries]
    assert [run.id for run in learned] == sorted(run.id for run in learned)
    assert len(learned) + len(tested) == len(sightings.runs)
    assert not {normalise(run.question) for run in learned} & {*map(normalise, tested)}


def test_logs_that_cannot_be_divided_are_refused(sightings):
    with pytest.raises(ConfigError, match="2 runs make no 3 periods"):
        split_periods(sightings.runs[:2], 3)
    with pytest.raises(ConfigError, match="no query to test with"):
        split_periods(sightings.runs, 60)


def test_every_period_is_measured_after_every_round(kb, sightings):
    periods = split_periods(sightings.runs, 2)
    hyper = Hyperparameters(mode="adapter", epochs=30, negatives=2, max_tokens=16)
    told: list[str] = []
    table = evaluate_periods(
        kb, periods, learning={"hyper": hyper}, told=lambda name, outcome: told.append(name)
    )
    assert told == table.periods
    assert [len(row) for row in table.scores] == [2, 2, 2]
    assert all(0 <= score <= 1 for row in table.scores for score in row)
    for before, outcome, after in zip(table.scores, table.outcomes, table.scores[1:], strict=False):
        assert outcome.startswith(("promoted: ", "kept: ", "skipped: "))
        if not outcome.startswith("promoted"):
            assert after == before  # what serves is as it was


def test_forgetting_and_transfer_are_read_off_the_matrix():
    table = ContinualTable(
        periods=["a", "b"],
        queries=[5, 5],
        scores=[[0.2, 0.1], [0.6, 0.3], [0.5, 0.7]],
        outcomes=["promoted: x"] * 2,
    )
    assert table.gains == pytest.approx([0.3, 0.6])
    assert table.forward == pytest.approx(0.2)
    assert table.forgetting == pytest.approx([0.1, 0.0])


def test_the_example_runs_and_leaves_a_table_and_a_plot(tmp_path):
    command = [sys.executable, "-P", str(ROOT / "examples" / "continual.py"), tmp_path / "kb", "16"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    table = json.loads((tmp_path / "kb" / "continual.json").read_text(encoding="utf-8"))
    assert [len(row) for row in table["scores"]] == [3] * 4
    assert "forgotten" in done.stdout
    assert (tmp_path / "kb" / "continual.svg").stat().st_size > 1000
    assert len((tmp_path / "kb" / "logs" / "flywheel.jsonl").read_text().splitlines()) == 3
