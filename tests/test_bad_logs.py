"""Logs as they should not be, from import to mining: counted, skipped, never a silent label."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from retrail.core import ConfigError
from retrail.core.documents import Document
from retrail.core.trajectories import Level, Trajectory
from retrail.memory import TrajectoryStore
from retrail.memory.formats import import_files
from retrail.retrievers.training import Mined, MiningOptions, diagnose, mine_all
from retrail.retrievers.training.examples import Example
from retrail.retrievers.training.guards import GONE_NEGATIVES, GONE_POSITIVES, without_gone
from retrail.serving import app
from typer.testing import CliRunner

from retrail import Workspace

Log = Callable[..., tuple[dict[str, Any], Mined]]

EVERYTHING = MiningOptions(intensity="dwell", examined=True, reasoning=True, questions="useful")
UNUSED = "runs without an opening of a shown document"


def search(*doc_ids: str, query: str = "moss", **fields: Any) -> dict[str, Any]:
    results = [{"rank": n, "doc_id": doc_id} for n, doc_id in enumerate(doc_ids, 1)]
    return {"type": "search", "query": query, "results": results} | fields


def opened(doc_id: str, seconds: Any = 40, **fields: Any) -> dict[str, Any]:
    return {"type": "open", "doc_id": doc_id, "dwell_s": seconds} | fields


def session(*steps: dict[str, Any], name: str = "s1", question: str = "What is moss?") -> str:
    return json.dumps({"id": name, "query": question, "steps": steps})


def import_log(workspace: Path, log: Path) -> dict[str, Any]:
    arguments = ["trajectories", "import", str(log), "-w", str(workspace), "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def runs_of(workspace: Path) -> list[Trajectory]:
    with TrajectoryStore(workspace / "trajectories.db") as store:
        return list(store.iterate())


@pytest.fixture
def mine(tmp_path: Path) -> Log:
    """Import lines as a user does, and mine what was stored, every option on."""

    def import_and_mine(*lines: str | bytes) -> tuple[dict[str, Any], Mined]:
        log = tmp_path / "log"
        log.write_bytes(b"\n".join(x if isinstance(x, bytes) else x.encode() for x in lines))
        report = import_log(tmp_path / "kb", log)
        runs = runs_of(tmp_path / "kb")
        assert diagnose(runs).all.runs == len(runs)
        return report, mine_all(runs, options=EVERYTHING)

    return import_and_mine


def levels(mined: Mined) -> dict[str, Level]:
    return {signal.doc_id: signal.level for _, signals in mined.runs for signal in signals}


@pytest.mark.parametrize("seconds", [-5, 1e308, "long", True, [3]])
def test_a_dwell_that_is_no_length_of_time_is_no_dwell(seconds: Any, mine: Log):
    report, mined = mine(session(search("a", "b"), opened("a", seconds)))
    assert report["dropped"] == {"dwell times that are no length of time": 1}
    assert mined.runs == []
    assert mined.report.dropped == {"openings that nobody judged": 1, UNUSED: 1}


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none_cost_their_run_only(number: str, mine: Log):
    broken = session(search("a"), opened("a", 1234)).replace("1234", number)
    report, mined = mine(broken, session(search("a"), opened("a"), name="s2"))
    assert (report["imported"], report["skipped"]) == (1, 1)
    assert report["problems"][0].startswith("line 1: ")
    assert levels(mined) == {"a": Level.USEFUL}


def test_no_time_at_all_weighs_least(mine: Log):
    shown = search("a", "b", "c", "d")
    _, mined = mine(session(shown, opened("a", 0), opened("b", 40), opened("c", 90)))
    weights = {signal.doc_id: signal.weight for signal in mined.runs[0][1]}
    assert 0 < weights["a"] < 0.01 < weights["b"] < weights["c"]


def test_clocks_that_go_back_are_told_and_the_order_is_the_logs(mine: Log):
    first = search("a", "b", at="2026-01-02T00:00:00Z")
    report, mined = mine(session(first, opened("b", at="2026-01-01T00:00:00Z")))
    assert report["dropped"] == {"clocks that go back, whose order is the log's": 1}
    assert levels(mined) == {"a": Level.UNOPENED, "b": Level.USEFUL}


@pytest.mark.parametrize("time", ["yesterday", -1e300, {}, "2026-13-41T99:00:00Z"])
def test_times_that_are_none(time: Any, mine: Log):
    _, mined = mine(session(search("a", t=time), opened("a", t=time)))
    assert levels(mined) == {"a": Level.USEFUL}


def test_clicks_on_what_no_list_showed(mine: Log):
    report, mined = mine(session(opened("a"), search("a", "b"), opened("z"), opened("b")))
    assert report["understood"] == {"search": 1, "browse": 3}
    assert mined.report.dropped == {"opened without having been shown": 2}
    assert levels(mined) == {"a": Level.UNOPENED, "b": Level.USEFUL}


@pytest.mark.parametrize("results", [None, "a", 7, {"a": 1}, ["a"]])
def test_missing_or_unreadable_lists_are_no_empty_lists(results: Any, mine: Log):
    report, mined = mine(session(search() | {"results": results}, opened("a")))
    assert report["dropped"] == {"searches without a list of results that can be read": 1}
    assert mined.runs == []
    assert mined.report.dropped["opened without having been shown"] == 1


def test_unknown_tools_and_events_are_told(mine: Log):
    call = {"name": "brew_tea", "arguments": "{}"}
    chat = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "c", "function": call}]},
        {"role": "tool", "tool_call_id": "c", "content": "tea"},
        {"role": "assistant", "content": "Done."},
    ]
    wander = {"type": "teleport"}
    report, mined = mine(
        json.dumps({"messages": chat}), session(search("a"), wander, opened("a"), {"type": None})
    )
    assert report["dropped"] == {
        "calls of 'brew_tea', a tool of unknown meaning": 1,
        "events of the type 'teleport'": 1,
        "events of the type 'None'": 1,
    }
    assert levels(mined) == {"a": Level.USEFUL}
    assert mined.report.dropped == {UNUSED: 1}


def test_duplicates_teach_once(mine: Log):
    one, other = session(search("a", "b"), opened("a")), session(search("a", "b"), opened("b"))
    report, mined = mine(one, one, other)
    assert (report["imported"], report["already_there"], report["conflicts"]) == (1, 1, 1)
    assert "'s1'" in report["problems"][0]
    assert levels(mined) == {"a": Level.USEFUL, "b": Level.UNOPENED}


def test_runs_that_contradict_each_other_teach_no_negative(mine: Log):
    one = session(search("a", "b"), opened("a"))
    _, mined = mine(one, session(search("a", "b"), opened("b"), name="s2"))
    assert levels(mined) == {"a": Level.USEFUL, "b": Level.USEFUL}
    assert mined.report.dropped == {"negatives that another run of the question found useful": 2}


def test_encodings(mine: Log):
    good = session(search("é"), opened("é"), name="s1")
    latin = session(search("a"), opened("a"), name="s2", question="é")
    latin = json.dumps(json.loads(latin), ensure_ascii=False).encode("latin-1")
    lone = session(search("\ud800"), opened("\ud800"), name="s3")
    report, mined = mine(b"\xef\xbb\xbf" + good.encode() + b"\r", b"", latin, lone)
    assert (report["imported"], report["skipped"]) == (1, 2)
    assert ["UTF-8" in p or "Unicode" in p for p in report["problems"]] == [True, True]
    assert levels(mined) == {"é": Level.USEFUL}


def test_utf_16(mine: Log):
    _, mined = mine(session(search("a"), opened("a")).encode("utf-16"))
    assert levels(mined) == {"a": Level.USEFUL}


@pytest.mark.parametrize("score", [1.0, 0.0, None])
def test_equal_scores_and_ranks(score: float | None, mine: Log):
    results = [{"rank": 1, "doc_id": each, "score": score} for each in "abc"]
    _, mined = mine(session(search() | {"results": results}, opened("b")))
    assert levels(mined) == {"a": Level.UNOPENED, "b": Level.USEFUL, "c": Level.UNOPENED}
    assert all(signal.weight > 0 for signal in mined.runs[0][1])


ODD = st.text(st.characters(exclude_categories=("Cs",)), min_size=1).filter(str.strip)


@given(doc_ids=st.lists(ODD, min_size=2, max_size=4, unique=True))
def test_odd_ids_are_ids(doc_ids: list[str], tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("odd")
    (folder / "log").write_text(session(search(*doc_ids), opened(doc_ids[-1])), encoding="utf-8")
    with TrajectoryStore(folder / "trajectories.db") as store:
        assert import_files(store, [folder / "log"]).imported == 1
        found = levels(mine_all(store.iterate(), options=EVERYTHING))
    expected = dict.fromkeys(doc_ids, Level.UNOPENED) | {doc_ids[-1]: Level.USEFUL}
    assert found == expected


def test_nothing_useful_is_nothing_to_learn_from(tmp_path: Path):
    log = tmp_path / "log"
    passed_over = [session(search("a", "b", query=f"q{n}"), name=f"s{n}") for n in range(30)]
    log.write_text("\n".join(passed_over))
    import_log(tmp_path / "kb", log)
    with Workspace.open(tmp_path / "kb") as workspace:
        workspace.add(Document(id="a", text="Moss."), Document(id="b", text="Fern."))
        with pytest.raises(ConfigError, match=f"0 training examples.*30 {UNUSED}"):
            workspace.learn()
        assert workspace.models() == []


def test_passages_that_are_gone_teach_nothing(tmp_path: Path):
    log = tmp_path / "log"
    lines = [
        session(search("x", "y", query=f"q{n}"), opened("x"), name=f"s{n}", question=f"Q {n}?")
        for n in range(60)
    ]
    log.write_text("\n".join(lines))
    import_log(tmp_path / "kb", log)
    with Workspace.open(tmp_path / "kb") as workspace:
        workspace.add(Document(id="a", text="Moss."), Document(id="b", text="Fern."))
        with pytest.raises(ConfigError, match=rf": 0 training examples.* \d+ {GONE_POSITIVES}"):
            workspace.learn()
        assert workspace.models() == []


def test_what_is_gone_is_counted_and_the_rest_stays():
    rows = [Example("g", "q", "a#0", ("b#0", "x#0", "c#0"), 1.0), Example("g", "q", "y#0", (), 1.0)]
    dropped: Counter[str] = Counter()
    left = without_gone(rows, lambda ids: {i: "" for i in ids if i[0] in "abc"}, dropped)
    assert left == [replace(rows[0], negatives=("b#0", "c#0"))]
    assert dropped == {GONE_POSITIVES: 1, GONE_NEGATIVES: 1}


def test_long_runs_are_mined_step_by_step(tmp_path: Path):
    """Four times the steps are four times the signals, each search's its own."""
    pairs = 2_500
    steps = [
        each
        for n in range(pairs)
        for each in (search(f"d{n}", f"e{n}", query=f"q{n}"), opened(f"d{n}"))
    ]
    (tmp_path / "log").write_text(session(*steps))
    assert import_log(tmp_path / "kb", tmp_path / "log")["understood"]["browse"] == pairs
    (run,) = runs_of(tmp_path / "kb")
    mined = mine_all([run], options=EVERYTHING)
    assert mined.report.levels == {"useful": pairs, "unopened": pairs}
