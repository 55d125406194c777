"""Published logs as they are: everything in them is understood, and what is learned makes sense."""

import gzip
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from retrail.agents.workspace import Workspace
from retrail.core.documents import Document
from retrail.core.trajectories import Trajectory
from retrail.memory import ImportReport
from retrail.memory.formats import export_runs, import_files
from retrail.retrievers.training import mine_all
from retrail.retrievers.training.export import TRAINING_FORMATS, export_training

RUNS = 6
"""Of wiki_agent's, whose documents are indexed."""


@pytest.fixture(scope="session")
def trajectories(shared_data: Path) -> Path:
    folder = shared_data / "trajectories"
    if not folder.is_dir():
        pytest.skip(f"no trajectories in {str(shared_data)!r}")
    return folder


def read_lines(path: Path) -> list[Any]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def test_lrat_runs_retrieved_what_they_say(trajectories: Path, load, store, tmp_path: Path):
    folder = trajectories / "lrat_bm25" / "runs"
    report, runs = load(folder)
    published = {path.stem: json.loads(path.read_bytes()) for path in folder.glob("*.json")}
    assert report.understood == {"search": 102, "browse": 28, "answer": 10}
    assert report.dropped == {}
    for run in runs:
        theirs = published[str(run.query_id)]
        assert sorted(run.retrieved()) == theirs["retrieved_docids"]  # theirs are sorted
        assert run.question == theirs["query"]
    export_runs(store.iterate(), tmp_path / "out", "browsecomp-plus")
    for path in (tmp_path / "out").iterdir():
        assert json.dumps(json.loads(path.read_bytes())) == json.dumps(published[path.stem])


def test_wiki_agent_keeps_ranks_scores_and_times(trajectories: Path, load):
    path = trajectories / "wiki_agent" / "runs.jsonl.gz"
    report, runs = load(path)
    published = read_lines(path)
    assert (report.imported, report.dropped) == (len(published), {})
    for run, theirs in zip(runs, published, strict=True):
        assert run.retrieved() == theirs["retrieved_docids"]
        calls = [entry for entry in theirs["result"] if entry["type"] == "tool_call"]
        steps = [step for step in run.steps if step.action != "answer"]
        for step, call in zip(steps, calls, strict=True):
            arguments = json.loads(call["arguments"])
            at = datetime.fromisoformat(step.at).timestamp()
            assert at == pytest.approx(call["at"], abs=0.001)
            if step.action == "search":
                assert (step.tool, [step.args["query"]]) == (
                    arguments["retriever"],
                    arguments["query"],
                )
                assert [(h.doc_id, h.rank, h.score) for h in step.observation.hits or []] == [
                    (h["id"], h["rank"], h["score"]) for h in call["hits"]
                ]
            else:
                assert step.observation.doc_id == arguments["docid"]


def test_people_of_the_session_track(trajectories: Path, load):
    path = trajectories / "trec_session_2013" / "trajectories.jsonl.gz"
    report, runs = load(path)
    assert report.understood == {"search": 269, "browse": 291}
    dwell = [s.observation.dwell_ms for run in runs for s in run.steps if s.action == "browse"]
    assert sum(ms is not None and ms >= 30_000 for ms in dwell) == 98
    shown = {(r["id"], x["doc_id"]) for r in read_lines(path) for s in r["steps"]
             for x in s.get("results", ())}  # fmt: skip
    assert {(run.id, name) for run in runs for name in run.retrieved()} == shown


def test_shop_and_hotpot_runs(trajectories: Path, load):
    report, runs = load(trajectories / "webshop_react" / "trajectories.jsonl.gz")
    assert (report.imported, report.understood["browse"]) == (250, 255)
    assert report.dropped == {"events of the type 'action'": 401}
    assert {type((run.model_extra or {}).get("original")) for run in runs} == {dict}
    thoughtful = sum(step.thought is not None for run in runs for step in run.steps)
    assert thoughtful > 400


@pytest.fixture(scope="module")
def learned(
    trajectories: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Workspace, ImportReport, list[Trajectory]]]:
    """A workspace over what some runs of wiki_agent saw, and those runs in it."""
    root = tmp_path_factory.mktemp("wiki")
    lines = read_lines(trajectories / "wiki_agent" / "runs.jsonl.gz")[:RUNS]
    (root / "runs").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    seen = {name for line in lines for name in line["retrieved_docids"]}
    gone = lines[0]["retrieved_docids"][-1]
    corpus = [
        Document(id=d["_id"], title=d["title"], text=d["text"])
        for d in read_lines(trajectories / "wiki_agent" / "corpus.jsonl.gz")
        if d["_id"] in seen - {gone}
    ]
    with Workspace.create(root / "kb") as workspace:
        workspace.add(*corpus)
        report = import_files(workspace.trajectories, [root / "runs"])
        yield workspace, report, list(workspace.trajectories.iterate())


def test_imported_runs_are_mined(learned: Any):
    workspace, report, runs = learned
    assert report.imported == RUNS
    mined = mine_all(workspace.trajectories.iterate())
    opened = sum(len(run.opened()) for run in runs)
    assert mined.report.used == RUNS
    levels = mined.report.levels
    assert 0.8 * opened <= levels["useful"] + levels["rejected"] <= 1.2 * opened
    assert levels["unopened"] > 5 * levels["useful"]
    asked = {step.args["query"] for run in runs for step in run.steps if step.action == "search"}
    assert {signal.query for _, signals in mined.runs for signal in signals} <= asked


@pytest.mark.parametrize("form", TRAINING_FORMATS)
def test_training_rows_of_imported_runs(form: str, learned: Any, tmp_path: Path):
    workspace, _, runs = learned
    out = tmp_path / "rows"
    manifest = export_training(
        workspace.trajectories.iterate(), workspace.index.texts, out, form, negatives=3
    )
    assert manifest.rows > RUNS
    assert set(manifest.trajectories) == {run.id for run in runs}
    assert manifest.left_out["negatives that are gone from the corpus"] > 0
    for name, count in manifest.files.items():
        assert len((out / name).read_text(encoding="utf-8").splitlines()) == count
    assert json.loads((out / "manifest.json").read_bytes()) == manifest.model_dump()
