"""retrail compare: differences worked out on paper, corrections, and what is refused."""

import json
import math
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from retrail.core import ConfigError, write_trec_run
from retrail.core.significance import (
    bootstrap_interval,
    holm,
    paired_bootstrap,
    randomisation_p,
)
from retrail.evals import QueryResult, Summary, compare
from retrail.evals.results import Configuration, Counts, summarise, to_json
from retrail.serving import app
from typer.testing import CliRunner

QUERIES = [f"q{n}" for n in range(8)]
HOSTILE = "<script>alert(1)</script> [bold]\x1b[31m"


def configuration(**fields: Any) -> Configuration:
    base: dict[str, Any] = {
        "dataset": "d", "split": "test", "files": {"qrels/test.tsv": "aa", "corpus.jsonl": "cc"},
        "by": ("late",), "planner": "rules", "model": None, "metrics": ("nDCG@10",), "k": 10,
        "limit": None, "seed": 0, "encoder": "e@1", "generation": 1, "settings": {"candidates": 9},
        "retrail": "0",
    }  # fmt: skip
    return Configuration.model_validate(base | fields)


def write_results(
    folder: Path, values: dict[str, tuple[float, float, float | None]], **fields: Any
) -> Path:
    """Write results as eval does: query id → nDCG@10 of late, steps and precision of the agent."""
    rows = [
        QueryResult(
            query_id=query,
            question=f"{HOSTILE} {query}?",
            type=None,
            relevant=1,
            status="completed",
            values={
                "late": {"nDCG@10": quality},
                "agent": {"steps": steps, "browse_precision": precision},
            },
        )
        for query, (quality, steps, precision) in values.items()
    ]
    folder.mkdir()
    size = len(rows)
    summary = Summary(
        created_at="2026-01-01T00:00:00Z",
        configuration=configuration(**fields),
        counts=Counts(documents=9, passages=9, queries=size, judged=size, evaluated=size),
        metrics=summarise(rows),
        by_type={},
        statuses={"completed": size},
        versions={},
        notes=[],
    )
    (folder / "summary.json").write_text(to_json(summary), encoding="utf-8")
    lines = "".join(row.model_dump_json() + "\n" for row in rows)
    (folder / "per_query.jsonl").write_text(lines, encoding="utf-8")
    return folder


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    a = write_results(tmp_path / "a", {q: (0.25, 10.0, 0.5) for q in QUERIES})
    better = {q: (0.25 + 0.5 * (n < 6), 8.0, None if n else 1.0) for n, q in enumerate(QUERIES)}
    return a, write_results(tmp_path / "b", better)


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


def test_differences_worked_out_on_paper(pair):
    found = compare(*pair)
    assert found.queries == 8
    quality, steps, precision = found.differences
    assert (quality.system, quality.metric) == ("late", "nDCG@10")
    assert (quality.a, quality.b, quality.difference) == (0.25, 0.625, 0.375)
    assert (quality.wins, quality.ties, quality.losses) == (6, 2, 0)
    # Both signs of six differences: 2 of 64 assignments are as extreme.
    assert quality.p == 2 / 64
    assert [mover.query_id for mover in quality.movers] == QUERIES[:6]
    # Fewer steps are better.
    assert (steps.difference, steps.wins, steps.losses) == (-2.0, 8, 0)
    assert steps.p == 2 / 256
    # Only queries that have the metric in both.
    assert (precision.queries, precision.difference, precision.p) == (1, 0.5, 1.0)
    assert [row.p_corrected for row in found.differences] == [2 * 2 / 64, 3 * 2 / 256, 1.0]
    assert [row.significant for row in found.differences] == [False, True, False]
    assert found == compare(*pair)


def test_intervals_are_those_of_the_paired_bootstrap(pair):
    row = compare(*pair, seed=5).differences[0]
    expected = paired_bootstrap([0.25] * 8, [0.75] * 6 + [0.25] * 2, seed=5)
    assert (row.low, row.high) == (expected.low, expected.high)


def test_the_command_shows_writes_and_prints(pair, tmp_path: Path):
    page = tmp_path / "page.html"
    result = run(*pair, "--json", "--html", page)
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["differences"][0]["difference"] == 0.375
    text = page.read_text(encoding="utf-8")
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "<svg" in text
    shown = run(*pair)
    assert shown.exit_code == 0
    assert "+0.375" in shown.stdout
    assert "6/2/0" in shown.stdout
    assert "\x1b" not in shown.stdout
    assert "most changed by late nDCG@10" in shown.stdout


def test_other_queries_are_refused_or_intersected(pair, tmp_path: Path):
    values = {q: (1.0, 1.0, 1.0) for q in [*QUERIES[2:], "new"]}
    other = write_results(tmp_path / "other", values)
    result = run(pair[0], other)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "2 only in A ('q0', 'q1'); 1 only in B ('new')" in result.stderr
    assert "--intersect compares the 6 that both have" in result.stderr
    result = run(pair[0], other, "--intersect", "--json")
    found = json.loads(result.stdout)
    assert (found["queries"], found["only_a"], found["only_b"]) == (6, 2, 1)
    assert "over the 6 queries both have" in result.stderr
    none = write_results(tmp_path / "none", {"z": (1.0, 1.0, 1.0)})
    with pytest.raises(ConfigError, match="no query in common"):
        compare(pair[0], none, intersect=True)


def test_other_judgements_are_refused_and_other_settings_said(pair, tmp_path: Path):
    values = {q: (1.0, 1.0, 1.0) for q in QUERIES}
    other = write_results(tmp_path / "x", values, files={"qrels/test.tsv": "bb"})
    with pytest.raises(ConfigError, match="measured against different judgements"):
        compare(pair[0], other)
    files = {"qrels/test.tsv": "aa", "corpus.jsonl": "dd"}
    changed = write_results(tmp_path / "y", values, files=files, encoder="e@2")
    assert compare(pair[0], changed).notes == [
        "A and B: encoder was 'e@1', now 'e@2'",
        "A and B: corpus.jsonl has changed",
    ]


def test_runs_are_compared_by_their_judgements(tmp_path: Path):
    qrels = tmp_path / "qrels.tsv"
    qrels.write_text("q\td\ts\nq1\ta\t1\nq2\tb\t1\nq3\tc\t0\n", encoding="utf-8")
    rankings = {"a": ("a", "b"), "b": ("b", "a")}
    for name, order in rankings.items():
        ranked = [(q, [(d, float(-n)) for n, d in enumerate(order)]) for q in ("q1", "q2", "q9")]
        write_trec_run(tmp_path / name, ranked, "t")
    found = compare(tmp_path / "a", tmp_path / "b", qrels=qrels, metrics=["RR@10", "R@1"])
    assert found.queries == 2
    assert [(row.system, row.metric) for row in found.differences] == [
        ("run", "RR@10"),
        ("run", "R@1"),
    ]
    assert [(row.wins, row.losses, row.difference) for row in found.differences] == [
        (1, 1, 0.0)
    ] * 2
    assert found.notes[0] == "1 queries of 'a' are not judged: left out"


def test_what_cannot_be_compared_is_refused(pair, tmp_path: Path):
    a, b = pair
    trec, empty, qrels = tmp_path / "r.trec", tmp_path / "e.trec", tmp_path / "qrels"
    write_trec_run(trec, [("q1", [("d", 1.0)])], "t")
    empty.write_text("", encoding="utf-8")
    qrels.write_text("other\td\t1\n", encoding="utf-8")
    none = tmp_path / "none.tsv"
    none.write_text("q1\td\t0\n", encoding="utf-8")
    (tmp_path / "unfinished").mkdir()
    for arguments, expected in (
        ((a, tmp_path / "gone"), "there is no file or folder"),
        ((a, trec), "a folder and a file"),
        ((trec, trec), "runs need judgements"),
        ((trec, empty, "--qrels", none), "no relevant document"),
        ((trec, trec, "--qrels", qrels), "no query of"),
        ((a, tmp_path / "unfinished"), "give the folder of a finished evaluation"),
        ((trec, trec, "--qrels", tmp_path / "gone"), "cannot be read"),
        ((trec, trec, "--qrels", qrels, "--metrics", "Magic"), "unknown measure 'Magic'"),
    ):
        result = run(*arguments, "--json")
        assert (result.exit_code, result.stdout) == (2, ""), arguments
        assert expected in result.stderr
    qrels.write_text("q1\td\t1\n", encoding="utf-8")
    assert "is an empty run" in run(trec, empty, "--qrels", qrels).stderr
    (b / "summary.json").write_text('{"schema_version": 99}', encoding="utf-8")
    assert "is not what this version writes" in run(a, b).stderr


# --- significance

SCORES = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=9)


@given(scores=SCORES)
def test_the_exact_test_enumerates_every_assignment(scores):
    difference = [b - a for a, b in scores]
    observed = abs(math.fsum(difference))
    count = sum(
        abs(math.fsum(s * d for s, d in zip(signs, difference, strict=True))) >= observed - 1e-10
        for signs in product((-1, 1), repeat=len(scores))
    )
    p = randomisation_p([a for a, _ in scores], [b for _, b in scores])
    assert p == pytest.approx(count / 2 ** len(scores))


def test_the_drawn_test_agrees_with_the_exact_one():
    rng = np.random.default_rng(2)
    before, after = rng.random(12).tolist(), (rng.random(12) + 0.2).tolist()
    exact = randomisation_p(before, after)
    drawn = randomisation_p(before, after, resamples=4_000, seed=1)
    assert drawn == pytest.approx(exact, abs=0.02)
    assert randomisation_p([0.0] * 100, [1.0] * 100, resamples=999) == 1 / 1000
    assert randomisation_p([], []) == 1.0
    assert randomisation_p([0.3], [0.3]) == 1.0
    with pytest.raises(ValueError, match="2 and 1"):
        randomisation_p([0.1, 0.2], [0.1])


def test_equal_systems_are_rarely_called_different():
    rng = np.random.default_rng(11)
    trials = [
        randomisation_p(rng.random(30).tolist(), rng.random(30).tolist(), resamples=400)
        for _ in range(300)
    ]
    assert 0.02 < sum(p < 0.05 for p in trials) / 300 < 0.09


@given(p_values=st.lists(st.floats(0, 1), max_size=8))
def test_holm_is_its_definition(p_values):
    found = holm(p_values)
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    least = 0.0
    for rank, i in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * p_values[i]))
        assert found[i] == pytest.approx(least)
    assert all(p <= corrected for p, corrected in zip(p_values, found, strict=True))


@given(values=st.lists(st.floats(0, 1), min_size=1, max_size=20), seed=st.integers(0, 3))
def test_an_interval_holds_its_mean_between_the_extremes(values, seed):
    found = bootstrap_interval(values, resamples=200, seed=seed)
    assert found.mean == pytest.approx(sum(values) / len(values))
    assert min(values) - 1e-12 <= found.low <= found.high <= max(values) + 1e-12
    assert found == bootstrap_interval(values, resamples=200, seed=seed)
    paired = paired_bootstrap([0.0] * len(values), values, resamples=200, seed=seed)
    assert (found.low, found.high) == pytest.approx((paired.low, paired.high))
