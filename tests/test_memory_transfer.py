"""Import and export: runs go in and out unchanged, whatever is in them or around them."""

import gzip
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from retrail.core.errors import ConfigError
from retrail.core.trajectories import Trajectory
from retrail.memory import ImportReport, TrajectoryStore
from ulid import ULID

DESIGN = {
    "schema_version": 1,
    "id": "01JDESIGN",
    "query_id": "q17",
    "question": "Wer schrieb „Dune“?\u2028",
    "status": "completed",
    "agent": {"planner": "rules", "model": None},
    "index": {"generation": 12, "encoder": "all-MiniLM-L6-v2@53aa"},
    "steps": [
        {
            "n": 1,
            "at": "2026-11-20T09:00:00.120Z",
            "ms": 1e-07,
            "action": "search",
            "tool": "late",
            "args": {"query": "…", "k": 10, "where": None},
            "observation": {
                "hits": [{"passage_id": "d3#0", "doc_id": "d3", "rank": 1, "score": 1}]
            },
        },
        {"n": 2, "at": "…", "action": "browse", "observation": {"doc_id": "d3", "vendor": {}}},
    ],
    "answer": {
        "text": "…",
        "citations": [{"doc_id": "d3", "start": 10, "end": 84, "quote": "…"}],
    },
    "usage": {"llm_tokens": 0, "seconds": 0.4},
}


@pytest.fixture
def store(tmp_path: Path):
    with TrajectoryStore(tmp_path / "trajectories.db") as opened:
        yield opened


def shape(run_id: str | None = None, **fields) -> dict[str, Any]:
    own = {} if run_id is None else {"id": run_id}
    return {**own, "question": "q", "agent": {"planner": "p"}, **fields}


def write(path: Path, *values: Any) -> Path:
    """Write lines: bytes as they are, anything else as JSON."""
    lines = [v if isinstance(v, bytes) else json.dumps(v).encode() for v in values]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def texts(path: Path) -> list[str]:
    """The lines of a file, with the order of fields and the kinds of numbers they have."""
    return [json.dumps(json.loads(line)) for line in path.read_bytes().splitlines()]


def numbers(report: ImportReport) -> tuple[int, int, int, int, int]:
    return report.read, report.imported, report.already_there, report.conflicts, report.skipped


def test_the_form_of_the_design_goes_in_and_out_unchanged(tmp_path: Path, store):
    source = write(tmp_path / "in.jsonl", DESIGN)
    assert numbers(store.import_lines(source)) == (1, 1, 0, 0, 0)
    assert store.get("01JDESIGN") == Trajectory.model_validate(DESIGN)
    target = tmp_path / "out.jsonl"
    assert store.export_lines(target) == 1
    assert texts(target) == [json.dumps(DESIGN)]
    summary = store.list()[0]
    assert (summary.steps, summary.opened, summary.cited, summary.seconds) == (2, 1, 1, 0.4)


def test_importing_again_changes_nothing(tmp_path: Path, store):
    reordered = dict(reversed(DESIGN.items()))
    source = write(tmp_path / "in.jsonl", DESIGN, shape("r2"), shape(), reordered, shape())
    assert numbers(store.import_lines(source)) == (5, 3, 2, 0, 0)
    assert numbers(store.import_lines(source)) == (5, 0, 5, 0, 0)
    assert store.count() == 3


def test_a_line_without_id_gets_one_by_its_content(tmp_path: Path, store):
    source = write(tmp_path / "in.jsonl", shape(), shape(id=""), shape(id=None), shape(x=1))
    assert numbers(store.import_lines(source)) == (4, 2, 2, 0, 0)
    ids = [run.id for run in store.iterate()]
    with TrajectoryStore(tmp_path / "other.db") as other:
        other.import_lines(source)
        assert [run.id for run in other.iterate()] == ids
    assert [str(ULID.from_str(run_id)) for run_id in ids] == ids


def test_other_content_under_a_stored_id(tmp_path: Path, store):
    steps = [{"n": 1, "at": "t", "action": "search"}]
    first = write(tmp_path / "first.jsonl", shape("r1", steps=steps), shape("r2"))
    store.import_lines(first)
    second = write(tmp_path / "second.jsonl", shape("r1", steps=steps, x=True), shape("r2"))
    report = store.import_lines(second)
    assert numbers(report) == (2, 0, 1, 1, 0)
    assert report.problems == ["line 1: 'r1' is stored with other content"]
    assert numbers(store.import_lines(first)) == (2, 0, 2, 0, 0)

    assert numbers(store.import_lines(second, replace=True)) == (2, 1, 1, 0, 0)
    target = tmp_path / "out.jsonl"
    store.export_lines(target)
    assert texts(target) == texts(second)


@pytest.mark.parametrize(("one", "other"), [(1, True), (1, 1.0), (None, 0), ([], {})])
def test_json_that_differs_in_kind_is_other_content(tmp_path: Path, store, one, other):
    store.import_lines(write(tmp_path / "one.jsonl", shape("r1", x=one)))
    report = store.import_lines(write(tmp_path / "other.jsonl", shape("r1", x=other)))
    assert report.conflicts == 1


def test_replacing_mends_a_damaged_run(tmp_path: Path, store):
    source = write(tmp_path / "in.jsonl", DESIGN)
    store.import_lines(source)
    store._db.execute("UPDATE steps SET body = '{' WHERE n = 1")
    assert store.import_lines(source).conflicts == 1
    assert store.import_lines(source, replace=True).imported == 1
    assert store.get("01JDESIGN") == Trajectory.model_validate(DESIGN)


STEP = {"n": 1, "at": "t", "action": "search"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", r"not JSON: Expecting property name .* at character \d"),
        (b"question: what", "not JSON: Expecting value at character 1"),
        (b'{"id": "a"} {"id": "b"}', "not JSON: Extra data at character 13"),
        (b"[1]", "not a JSON object but a list"),
        (b"null", "not a JSON object but a NoneType"),
        (b'{"question": "caf\xe9"}', "not UTF-8 at byte 18"),
        (b"\xff\xfe{\x00}\x00", "not UTF-8 at byte 1"),
        (shape("a", x=float("nan")), "not JSON: NaN is not a number"),
        (b'{"id":"a","question":"q","agent":{"planner":"p"},"x":1e999}', "Out of range"),
        (shape("a", question="\ud800"), "unpaired surrogate"),
        (shape("a", **{"\udfff": 1}), "unpaired surrogate"),
        (shape("a", steps=[{**STEP, "args": {"query": "\ud83d"}}]), "unpaired surrogate"),
        (shape("a", steps=[{**STEP, "observation": {"table": [{"\udc00": 1}]}}]), "surrogate"),
        (shape("a", schema_version=2, agent="new shape"), "schema_version 2 is newer than 1"),
        (shape("a", schema_version="3"), "schema_version 3 is newer than 1"),
        ({"id": "a", "agent": {"planner": "p"}}, "question: Field required"),
        (shape(7), "id: Input should be a valid string"),
        (shape("a", steps=None), "steps: Input should be a valid list"),
        (shape("a", steps=[STEP, {**STEP, "action": "fly"}]), r"steps\.1\.action: Input should"),
        (shape("a", steps=[{**STEP, "n": 2**63}]), "step number 9223372036854775808 is too large"),
        (b'{"x":' + b"[" * 99_999 + b"]" * 99_999 + b"}", "nested more than 100 levels"),
        (b'{"id":"a","question":"q","agent":{"planner":"p"},"x":' + b"1" * 5000 + b"}", "digits"),
    ],
)
def test_a_line_that_cannot_be_used_is_skipped_with_its_reason(tmp_path, store, line, reason):
    source = write(tmp_path / "in.jsonl", shape("before"), b"", line, shape("after"))
    report = store.import_lines(source)
    assert numbers(report) == (3, 2, 0, 0, 1)
    (problem,) = report.problems
    assert re.fullmatch(f"line 3: .*{reason}.*", problem)
    assert len(problem) < 250
    assert [run.id for run in store.iterate()] == ["before", "after"]


@pytest.mark.parametrize(("depth", "imported"), [(99, 1), (100, 0)])
def test_nesting_is_bounded_by_the_same_depth_everywhere(tmp_path, store, depth, imported):
    inner: Any = []
    for _ in range(depth - 1):
        inner = [inner]
    in_header = write(tmp_path / "header.jsonl", shape("a", x=inner))
    assert store.import_lines(in_header).imported == imported
    in_step = write(tmp_path / "step.jsonl", shape("b", steps=[{**STEP, "x": inner[0][0]}]))
    assert store.import_lines(in_step).imported == imported


def test_only_the_first_problems_are_told_but_all_are_counted(tmp_path: Path, store):
    report = store.import_lines(write(tmp_path / "in.jsonl", *[b"?"] * 50))
    assert report.skipped == 50
    assert [problem.split(":")[0] for problem in report.problems] == [
        f"line {n}" for n in range(1, 21)
    ]


@pytest.mark.parametrize("name", ["runs.jsonl.gz", "runs.jsonl"])
def test_what_editors_and_compressors_do_to_a_file(tmp_path: Path, store, name: str):
    lines = [json.dumps(shape(run_id), ensure_ascii=False) for run_id in ("é", "b\u2028c")]
    content = b"\xef\xbb\xbf" + "\r\n \r\n".join(lines).encode()
    source = tmp_path / name
    source.write_bytes(gzip.compress(content))
    assert numbers(store.import_lines(source)) == (2, 2, 0, 0, 0)
    assert [run.id for run in store.iterate()] == ["é", "b\u2028c"]


def test_a_compressed_file_that_breaks_off(tmp_path: Path, store):
    lines = [json.dumps(shape(os.urandom(500).hex())) for _ in range(20)]
    content = gzip.compress("\n".join(lines).encode())
    source = tmp_path / "runs.jsonl.gz"
    source.write_bytes(content[: len(content) // 2])
    report = store.import_lines(source)
    assert 0 < report.imported < 20
    assert report.skipped == 1
    assert "the file cannot be read further" in report.problems[0]


def test_files_that_are_not_there(tmp_path: Path, store):
    with pytest.raises(ConfigError, match=r"cannot read '.*none.jsonl': No such file"):
        store.import_lines(tmp_path / "none.jsonl")
    with pytest.raises(ConfigError, match=r"cannot read .*: give a file of JSON lines"):
        store.import_lines(tmp_path)
    with pytest.raises(ConfigError, match=r"cannot write '.*out.jsonl': No such file"):
        store.export_lines(tmp_path / "none" / "out.jsonl")


def test_steps_keep_the_order_of_the_file(tmp_path: Path, store):
    steps = [{**STEP, "n": n, "i": i} for i, n in enumerate([3, 1, 1, 2, 7, 5])]
    source = write(tmp_path / "in.jsonl", shape("r1", steps=steps))
    store.import_lines(source)
    store.export_lines(tmp_path / "out.jsonl")
    assert texts(tmp_path / "out.jsonl") == texts(source)


def test_export_of_chosen_runs(tmp_path: Path, store):
    source = write(tmp_path / "in.jsonl", *[shape(f"run-{name}") for name in "abc"])
    store.import_lines(source)
    target = tmp_path / "out.jsonl"
    assert store.export_lines(target, ids=["run-c", "run-a"]) == 2
    assert texts(target) == [texts(source)[2], texts(source)[0]]
    assert store.export_lines(target, ids=[]) == 0
    assert target.read_bytes() == b""


def test_an_export_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path, store):
    store.import_lines(write(tmp_path / "in.jsonl", shape("run-a")))
    folder = tmp_path / "out"
    folder.mkdir()
    target = folder / "runs.jsonl"
    target.write_text("old", encoding="utf-8")
    with pytest.raises(ConfigError, match="no run 'run-x'"):
        store.export_lines(target, ids=["run-a", "run-x"])
    assert [file.name for file in folder.iterdir()] == ["runs.jsonl"]
    assert target.read_text(encoding="utf-8") == "old"
    assert store.export_lines(target) == 1
    assert [file.name for file in folder.iterdir()] == ["runs.jsonl"]


def test_a_compressed_export_is_the_same_each_time(tmp_path: Path, store):
    source = write(tmp_path / "in.jsonl", DESIGN, shape("r2"))
    store.import_lines(source)
    plain, one, two = (tmp_path / name for name in ("a.jsonl", "b.jsonl.gz", "c.jsonl.gz"))
    for target in (plain, one, two):
        assert store.export_lines(target) == 2
    assert gzip.decompress(one.read_bytes()) == plain.read_bytes()
    no_time, no_name = bytes(4), 0
    assert (one.read_bytes()[4:8], one.read_bytes()[3]) == (no_time, no_name)
    assert one.read_bytes() == two.read_bytes()


# Any run at all

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
awkward_names = st.sampled_from(["opened", "model_config", "model_dump", "__class__", "self", ""])
unknown_fields = st.dictionaries(st.text("xyzé☃", max_size=3) | awkward_names, json_values)


def with_unknown(required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[Any]:
    known = st.fixed_dictionaries(required, optional=optional)
    together = st.tuples(unknown_fields, known).map(lambda both: both[0] | both[1])
    return together.flatmap(lambda fields: st.permutations(list(fields.items())).map(dict))


observations = with_unknown({}, {"doc_id": st.none() | st.text(), "text": st.text()})
steps = with_unknown(
    {
        "n": st.integers(0, 2**63 - 1),
        "at": st.text(max_size=30),
        "action": st.sampled_from(["search", "browse"]),
    },
    {
        "ms": st.floats(0, allow_infinity=False),
        "args": st.dictionaries(st.text(), json_values, max_size=3),
        "observation": observations,
    },
)
runs = with_unknown(
    {"question": st.text(), "agent": with_unknown({"planner": st.text()}, {"caller": st.text()})},
    {
        "id": st.text(max_size=5),
        "schema_version": st.just(1),
        "status": st.sampled_from(["running", "completed", "failed"]),
        "started_at": st.none() | st.datetimes().map(str) | st.text(),
        "steps": st.lists(steps, max_size=4),
        "answer": st.none() | with_unknown({"text": st.text()}, {}),
        "usage": st.fixed_dictionaries({}, optional={"seconds": st.integers(0, 9)}),
    },
)


@settings(max_examples=25, deadline=None)
@given(values=st.lists(runs, max_size=3, unique_by=lambda value: value.get("id", id(value))))
def test_any_run_goes_in_and_out_unchanged(values: list[dict[str, Any]]):
    with tempfile.TemporaryDirectory() as folder:
        source, first, second = (Path(folder, name) for name in ("in", "first", "second.gz"))
        write(source, *values)
        with TrajectoryStore(Path(folder, "one.db")) as one:
            assert one.import_lines(source).skipped == 0
            one.export_lines(first)
            assert one.import_lines(first).already_there == one.count()
            models = list(one.iterate())
            listed = {run.id for run in one.list()}
        with TrajectoryStore(Path(folder, "two.db")) as two:
            assert two.import_lines(first).imported == len(models)
            two.export_lines(second)
        assert gzip.decompress(second.read_bytes()) == first.read_bytes()
        exported = texts(first)
    assert listed == {run.id for run in models}
    assert models == [Trajectory.model_validate_json(text) for text in exported]
    for value in values:
        if value.get("id"):
            assert json.dumps(value) in exported


@settings(max_examples=25, deadline=None)
@given(value=runs)
def test_any_run_recorded_here_comes_back_from_a_copy(value: dict[str, Any]):
    recorded = Trajectory.model_validate({**value, "id": "r1"})
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder, "out.jsonl")
        with TrajectoryStore(Path(folder, "one.db")) as one:
            one.start(recorded)
            one.export_lines(exported)
            kept = one.get("r1")
        with TrajectoryStore(Path(folder, "two.db")) as two:
            two.import_lines(exported)
            assert two.get("r1") == kept
    assert kept == recorded


@settings(max_examples=25, deadline=None)
@given(junk=st.lists(st.binary(max_size=40), max_size=5))
def test_any_junk_is_counted_and_never_raised(junk: list[bytes]):
    with tempfile.TemporaryDirectory() as folder:
        source = write(Path(folder, "in"), shape("good"), *junk)
        with TrajectoryStore(Path(folder, "one.db")) as one:
            report = one.import_lines(source)
            assert one.get("good").id == "good"
    assert report.imported == 1
    assert report.read == report.imported + report.skipped
