"""Learning that serves at once: query sides and drift compensation, settled later, rolled back.

Documents are plain English, queries in a made-up language that only the runs explain.
"""

import itertools
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from retrail.agents import Workspace
from retrail.core import (
    AgentInfo,
    ConfigError,
    CorruptStore,
    Document,
    HitRecord,
    IndexMismatch,
    Observation,
    Step,
    Trajectory,
)
from retrail.retrievers.training import Hyperparameters, LearnReport
from retrail.serving import checks
from retrail.serving.cli import app
from typer.testing import CliRunner

WORDS = (
    {"red": "blim", "green": "tark", "blue": "vosk", "white": "drel"},
    {"fox": "shib", "owl": "marn", "trout": "plex", "goat": "wuld"},
    {"forest": "zant", "harbour": "creb", "desert": "fosk", "attic": "yilt"},
)
THINGS = [
    tuple(zip(*words, strict=True)) for words in itertools.product(*(w.items() for w in WORDS))
]
DOCUMENTS = [
    Document(id=f"s{n}", text=f"A {colour} {animal} was seen in the {place}.")
    for n, ((colour, animal, place), _) in enumerate(THINGS)
]
QUESTIONS = {f"s{n}": " ".join(foreign) for n, (_, foreign) in enumerate(THINGS)}
HYPER = Hyperparameters(epochs=4, learning_rate=2e-4, negatives=2, max_tokens=32)
ADAPTER = HYPER.model_copy(update={"mode": "adapter"})
QUERY = HYPER.model_copy(update={"mode": "query"})
AT = "2026-11-20T09:00:00.000Z"
BASE = "all-MiniLM-L6-v2"
ONE, TWO = "models/dense/0001", "models/dense/0002"


def runs(answers: dict[str, str]) -> list[Trajectory]:
    """One run a question: ten documents shown, one opened and found useful."""
    rng, made = random.Random(1), []
    for asked, answer in answers.items():
        shown = [answer, *rng.sample([other for other in QUESTIONS if other != answer], 9)]
        rng.shuffle(shown)
        hits = [HitRecord(passage_id=f"{d}#0", doc_id=d, rank=r) for r, d in enumerate(shown, 1)]
        opened = Observation(doc_id=answer, passage_ids=[f"{answer}#0"])
        query = {"query": QUESTIONS[asked], "k": 10}
        steps = [
            Step(n=1, at=AT, action="search", args=query, observation=Observation(hits=hits)),
            Step(n=2, at=AT, action="browse", observation=opened),
            Step(n=3, at=AT, action="answer", thought="This answers it."),
        ]
        agent = AgentInfo(planner="simulated-reader")
        made.append(
            Trajectory(
                id=f"run-{asked}",
                question=QUESTIONS[asked],
                status="completed",
                agent=agent,
                steps=steps,
            )
        )
    return made


def shuffled() -> list[Trajectory]:
    answers = sorted(QUESTIONS)
    random.Random(4).shuffle(answers)
    return runs(dict(zip(QUESTIONS, answers, strict=True)))


Found = dict[tuple[str, str], dict[str, float]]


def found_by(kb: Workspace) -> Found:
    """Scores by every way to search that encodes a query."""
    return {
        (by, query): {hit.doc_id: hit.score for hit in kb.search(query, by=by, k=64)}
        for query in list(QUESTIONS.values())[::16]
        for by in ("dense", "late", "hybrid")
    }


def same(one: Found, other: Found) -> bool:
    return all(one[key] == pytest.approx(other[key], abs=2e-3) for key in one)


def files(kb: Workspace) -> set[str]:
    return {
        str(path.relative_to(kb.root))
        for name in ("index", "vectors")
        for path in (kb.root / name).rglob("*")
        if not path.name.endswith(("-wal", "-shm"))
    }


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small gain nothing from threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Learned(NamedTuple):
    """A workspace where a query encoder (1) and then a whole model (2) came to serve at once."""

    root: Path
    reports: tuple[LearnReport, LearnReport]
    files: tuple[set[str], set[str], set[str]]


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Learned:
    with Workspace.create(tmp_path_factory.mktemp("swap") / "kb") as kb:
        kb.add(*DOCUMENTS)
        for run in runs({name: name for name in QUESTIONS}):
            kb.trajectories.start(run)
        listed = [files(kb)]
        reports = []
        for hyper in (QUERY, HYPER):
            reports.append(kb.learn(hyper=hyper, swap="now", accept_equal=True))
            listed.append(files(kb))
        return Learned(kb.root, (reports[0], reports[1]), (listed[0], listed[1], listed[2]))


@pytest.fixture
def kb(learned: Learned, tmp_path: Path) -> Iterator[Workspace]:
    shutil.copytree(learned.root, tmp_path / "kb")
    with Workspace.open(tmp_path / "kb") as opened:
        yield opened


def pairs(kb: Workspace) -> list[Any]:
    sql = "SELECT encoder, query, coalesce(folder, number) FROM generations ORDER BY number"
    return [tuple(row) for row in kb.index.corpus.rows(sql)]


def test_both_were_promoted_over_the_old_vectors(learned: Learned, kb: Workspace):
    for report in learned.reports:
        assert report.verdict == "promoted", report.reason
        assert report.measured[0].queries == report.held_out
    assert learned.reports[0].measured[0].low > 0.1
    assert learned.files[0] == learned.files[1] == learned.files[2]
    assert pairs(kb) == [(BASE, "", 1), (BASE, ONE, 1), (BASE, TWO, 1)]
    assert [card.hyperparameters["mode"] for card in kb.models()] == ["query", "full"]
    status = kb.status()
    assert (status["encoder"], status["query"], status["generation"]) == (BASE, TWO, 3)


def test_runs_name_both_sides(kb: Workspace):
    run = kb.ask("blim shib zant")
    assert run.index is not None
    assert run.index.encoder is not None
    assert run.index.encoder.startswith(f"{BASE}@")
    assert run.index.encoder.endswith("+0002")


def test_rollback_and_promote_go_through_pairs_at_once(learned: Learned, kb: Workspace):
    with Workspace.open(kb.root) as reader:
        drifted = found_by(kb)
        assert same(found_by(reader), drifted)
        assert kb.rollback() == 4
        assert kb.status()["query"] == ONE
        one = found_by(reader)
        assert not same(one, drifted)
        assert kb.promote(0) == 5
        plain = found_by(reader)
        assert kb.status()["query"] is None
        assert kb.promote(1) == 6
        assert same(found_by(reader), one)
        assert kb.promote(2, swap="now") == 7
        assert same(found_by(reader), drifted)
        assert not same(plain, one)
    with pytest.raises(ConfigError, match="0002' serves already"):
        kb.promote(2, swap="now")
    assert files(kb) == learned.files[0]


def test_settling_brings_the_whole_model_and_can_be_undone(kb: Workspace):
    before = found_by(kb)
    report = kb.settle()
    assert (report.verdict, report.version, report.generation) == ("promoted", 2, 4)
    assert [row.retriever for row in report.measured] == ["dense", "late", "hybrid"]
    assert pairs(kb)[-1] == (TWO, "", 4)
    firsts = [kb.search(q, by="dense", k=1)[0].doc_id == d for d, q in QUESTIONS.items()]
    assert sum(firsts) / len(firsts) > 0.7
    with pytest.raises(ConfigError, match="nothing to settle"):
        kb.settle()
    with pytest.raises(ConfigError, match="has encoded the passages"):
        kb.settle(2)
    with pytest.raises(ConfigError, match="encodes queries only"):
        kb.settle(1)
    assert kb.rollback() == 5
    assert pairs(kb)[-1] == (BASE, TWO, 5)
    assert same(found_by(kb), before)
    assert kb.promote(2) == 6
    assert kb.promote(1) == 7  # brings its passages' encoder back as well
    assert pairs(kb)[-1] == (BASE, ONE, 7)


def test_settling_keeps_the_weights_that_were_learned_since(kb: Workspace):
    kb.learn(hyper=Hyperparameters(mode="fusion"))
    kb.promote(3)
    learned = kb.index.snapshot().settings.weights
    assert learned != kb.settings.weights
    kb.settle()
    assert pairs(kb)[-1][:2] == (TWO, "")
    assert kb.index.snapshot().settings.weights == learned


def test_missing_weights_are_mended_even_with_documents_staged(kb: Workspace):
    kb.settle()
    (kb.root / TWO / "modules.json").unlink()
    with Workspace.open(kb.root) as again:
        with pytest.raises(CorruptStore, match="models promote 0"):
            again.add(Document(id="zebra", text="A zebra crossed the road."))
        again.promote(0)
        assert again.search("zebra", by="keyword", k=1)[0].doc_id == "zebra"


class Killed(Exception):
    pass


def test_settling_goes_on_where_it_was_stopped(kb: Workspace):
    before = found_by(kb)
    encoded = []

    def stop(stage: str, done: int, total: int | None) -> None:
        if stage == "dense index":
            raise Killed

    with pytest.raises(Killed):
        kb.settle(progress=stop)
    assert found_by(kb) == before
    assert kb.status()["query"] == TWO
    report = kb.settle(
        force=True,
        progress=lambda stage, done, total: encoded.append(done) if stage == "encoding" else None,
    )
    assert (report.verdict, encoded, report.measured) == ("promoted", [], [])


def test_a_bad_adapter_is_not_promoted_and_nothing_that_serves_changes(kb: Workspace):
    before, rows, listed = found_by(kb), pairs(kb), files(kb)
    report = kb.learn(trajectories=shuffled(), hyper=ADAPTER)
    assert report.verdict == "kept"
    assert (found_by(kb), pairs(kb), files(kb)) == (before, rows, listed)
    assert kb.models()[-1].verdict == "kept"


def test_documents_added_later_are_found_by_the_query_side(kb: Workspace):
    kb.promote(1)
    kb.add(Document(id="new", text="A red owl and a blue fox were seen in the forest."))
    assert kb.status()["query"] == ONE
    found = [hit.doc_id for hit in kb.search("blim marn vosk shib zant", by="dense", k=5)]
    assert "new" in found


def test_a_query_side_of_unknown_passages_is_refused(kb: Workspace):
    told = kb.root / ONE / "query_side.json"
    told.write_text(
        json.dumps(json.loads(told.read_text("utf-8")) | {"passages": "x"}), encoding="utf-8"
    )
    with pytest.raises(IndexMismatch, match="not known here"):
        kb.promote(1)
    assert kb.status()["query"] == TWO


def test_an_unknown_swap_is_refused_before_anything_is_done(kb: Workspace):
    with pytest.raises(ConfigError, match="unknown swap 'later'"):
        kb.learn(swap="later")
    assert len(kb.models()) == 2


def run(kb: Workspace, *arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, [*arguments, f"--workspace={kb.root}"])
    assert done.exit_code == code, done.output
    return done.stderr if code else done.stdout  # progress goes to the other


def test_the_commands(kb: Workspace):
    listed = json.loads(run(kb, "models", "list", "--json"))
    assert (listed["serving"], listed["passages"]) == (TWO, BASE)
    assert [model["serving"] for model in listed["models"]] == [False, True]
    promoted = json.loads(run(kb, "models", "promote", "1", "--json"))
    assert promoted == {"generation": 4, "serving": ONE, "passages": BASE}
    assert "0001 for queries" in run(kb, "models", "list")
    run(kb, "models", "promote", "2", "--swap", "now")
    settled = json.loads(run(kb, "models", "settle", "--force", "--json"))
    assert (settled["verdict"], settled["version"]) == ("promoted", 2)
    assert "nothing to settle" in run(kb, "models", "settle", code=2)


def test_the_doctor_checks_the_query_side(kb: Workspace):
    found = {check.name: check for check in checks.workspace(kb)}
    assert (found["query side"].state, found["query side"].detail) == ("ok", TWO)
    assert found["index"].state == "ok"
    shutil.rmtree(kb.root / TWO)
    kb.close()
    found = {check.name: check for check in checks.workspace(kb)}
    assert found["query side"].state == "broken"
    assert "promote 0" in (found["query side"].fix or "")
    with pytest.raises(CorruptStore, match="query_side"):
        kb.search("blim", by="dense")
    kb.promote(0)
    assert kb.search("blim", by="dense")
