"""Learning for real, in small: invented words that only the trajectories can explain.

Documents are plain English, queries are in a made-up language. What a word means can be learned
from the runs of some questions and is then known for the others: a gain that cannot be chance.
"""

import itertools
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from retrail.agents import Workspace
from retrail.core import (
    AgentInfo,
    Answer,
    Citation,
    ConfigError,
    CorruptStore,
    Document,
    Hit,
    HitRecord,
    Observation,
    Step,
    Trajectory,
)
from retrail.evals import write_learning_report
from retrail.retrievers.encoder import Encoder
from retrail.retrievers.training import (
    Hyperparameters,
    LearnReport,
    Registry,
    read_record,
)
from retrail.retrievers.training.division import (
    MIN_EXAMPLES,
    MIN_HELD_OUT,
)

COLOURS = {"red": "blim", "green": "tark", "blue": "vosk", "white": "drel"}
ANIMALS = {"fox": "shib", "owl": "marn", "trout": "plex", "goat": "wuld"}
PLACES = {"forest": "zant", "harbour": "creb", "desert": "fosk", "attic": "yilt"}
HYPER = Hyperparameters(
    epochs=4, learning_rate=2e-4, batch_size=16, negatives=2, max_tokens=32, seed=0
)
AT = "2026-11-20T09:00:00.000Z"


def corpus() -> Iterator[tuple[Document, str]]:
    """64 sightings, each with the question that asks for it."""
    things = itertools.product(COLOURS.items(), ANIMALS.items(), PLACES.items())
    for n, words in enumerate(things):
        (colour, animal, place), foreign = zip(*words, strict=True)
        text = f"A {colour} {animal} was seen in the {place}."
        yield Document(id=f"s{n}", text=text), " ".join(foreign)


QUESTIONS = {document.id: question for document, question in corpus()}


def trajectories(answers: dict[str, str]) -> list[Trajectory]:
    """One run a question: ten documents shown, one opened and cited."""
    rng = random.Random(1)
    runs: list[Trajectory] = []
    for asked, (doc_id, answer) in enumerate(answers.items()):
        others = [other for other in rng.sample(sorted(QUESTIONS), 10) if other != answer]
        shown = [answer, *others[:9]]
        rng.shuffle(shown)
        hits = [HitRecord(passage_id=f"{d}#0", doc_id=d, rank=r) for r, d in enumerate(shown, 1)]
        opened = Observation(doc_id=answer, passage_ids=[f"{answer}#0"])
        query = {"query": QUESTIONS[doc_id], "k": 10}
        steps = [
            Step(n=1, at=AT, action="search", args=query, observation=Observation(hits=hits)),
            Step(n=2, at=AT, action="browse", observation=opened),
            Step(n=3, at=AT, action="answer", thought="This answers it."),
        ]
        citation = Citation(doc_id=answer, start=0, end=1, quote="A")
        runs.append(
            Trajectory(
                id=f"run-{asked:03}",
                question=QUESTIONS[doc_id],
                status="completed",
                agent=AgentInfo(planner="simulated-reader"),
                steps=steps,
                answer=Answer(text="A", citations=[citation]),
            )
        )
    return runs


TRUE_RUNS = trajectories({doc_id: doc_id for doc_id in QUESTIONS})


def shuffled_runs() -> list[Trajectory]:
    answers = sorted(QUESTIONS)
    random.Random(4).shuffle(answers)
    return trajectories(dict(zip(QUESTIONS, answers, strict=True)))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small gain nothing from threads, and lose much where cores are shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace that nobody changes; the tests work on copies."""
    path = tmp_path_factory.mktemp("learn") / "original"
    with Workspace.create(path) as kb:
        kb.add(*(document for document, _ in corpus()))
        for run in TRUE_RUNS:
            kb.trajectories.start(run)
    return path


def copied(source: Path, target: Path) -> Workspace:
    shutil.copytree(source, target)
    return Workspace.open(target)


@pytest.fixture
def kb(original: Path, tmp_path: Path) -> Iterator[Workspace]:
    with copied(original, tmp_path / "kb") as workspace:
        yield workspace


Found = dict[tuple[str, str], list[tuple[str, float]]]


def found_by(kb: Workspace) -> Found:
    """Rankings of every way to search, for a few of the questions."""

    def ranked(hits: Sequence[Hit]) -> list[tuple[str, float]]:
        return [(hit.doc_id, hit.score) for hit in hits]

    queries = list(QUESTIONS.values())[::9]
    ways = ("keyword", "dense", "late", "hybrid")
    return {(by, query): ranked(kb.search(query, by=by, k=64)) for by in ways for query in queries}


def same(one: Found, other: Found) -> bool:
    """Equal but for rounding, which may also swap neighbours."""
    return all(
        dict(one[key]).keys() == dict(other[key]).keys()
        and all(abs(score - dict(other[key])[doc]) < 2e-3 for doc, score in one[key])
        for key in one
    )


def files(kb: Workspace, *names: str) -> set[str]:
    return {
        str(path.relative_to(kb.root))
        for name in names
        for path in (kb.root / name).rglob("*")
        if not path.name.endswith(("-wal", "-shm"))
    }


class Learned(NamedTuple):
    """A workspace that has learned from its own runs."""

    kb: Workspace
    parent: Encoder
    before: Found
    report: LearnReport
    stages: set[str]


@pytest.fixture(scope="module")
def learned(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Learned]:
    stages: set[str] = set()

    def progress(stage: str, done: int, total: int | None) -> None:
        stages.add(stage)
        assert total is None or 0 <= done <= total

    with copied(original, tmp_path_factory.mktemp("learned") / "kb") as kb:
        before, parent = found_by(kb), kb.index.encoder()
        report = kb.learn(hyper=HYPER, progress=progress)
        yield Learned(kb, parent, before, report, stages)


def test_what_was_learned_is_measured_and_promoted(learned):
    report = learned.report
    assert report.verdict == "promoted"
    assert [measured.retriever for measured in report.measured] == ["dense", "late", "hybrid"]
    for measured in report.measured:
        assert measured.queries == report.held_out
        assert measured.low <= measured.difference <= measured.high
        assert measured.difference == pytest.approx(measured.after - measured.before)
    assert report.measured[0].low > 0.3
    assert "significant at 95 % (candidate 1 since" in report.reason


def test_what_the_gate_saw_is_kept(learned):
    report, folder = learned.report, learned.kb.root / "models/dense/0001"
    assert report.record == "models/dense/0001/gate.json"
    record = read_record(folder)
    gate = record.gate
    assert (record.version, gate.verdict, gate.reason) == (1, report.verdict, report.reason)
    assert gate.measured == report.measured
    assert len(gate.queries) == report.held_out, "runs mention every document: nothing guards"
    assert {"interpolation", "extrapolation"} == {query.part for query in gate.queries}
    for query in gate.queries:
        (doc_id,) = query.relevant
        assert QUESTIONS[doc_id] == query.query
        assert not query.seen
        assert (query.nearest or 0) <= 1
        found = learned.before.get(("dense", query.query))
        assert found is None or query.best["dense"][0] == [doc for doc, _ in found[:3]]
    assert len(record.curve) > 3
    assert record.curve[-1].loss < record.curve[0].loss
    assert record.curve[-1].learning_rate < HYPER.learning_rate
    assert record.behaviour is not None
    assert record.behaviour.all.runs == 64
    html = write_learning_report(learned.kb.root, 1).read_text(encoding="utf-8")
    assert 'Version 1: <span class="gold">promoted</span>' in html


def test_the_report_counts_what_it_used(learned):
    report = learned.report
    assert (report.trajectories, report.used, report.dropped) == (64, 64, {})
    assert report.examples + report.held_out == 64
    assert report.held_out >= MIN_HELD_OUT
    assert report.signals == {"cited": 64, "unopened": 64 * 9}
    assert {"training", "encoding", "measuring"} <= learned.stages


def test_a_version_is_registered_with_its_lineage(learned):
    (card,) = learned.kb.models()
    report = learned.report
    assert (card.version, card.name, card.reference) == (1, "dense", "models/dense/0001")
    assert (card.verdict, card.reason) == (report.verdict, report.reason)
    assert card.measured == report.measured
    assert card.trajectories == [run.id for run in TRUE_RUNS]
    assert card.hyperparameters == HYPER.model_dump() | {"pooling": ["max", 4, 0.1]}
    assert card.parent == learned.parent.id
    assert card.fingerprint != learned.parent.fingerprint
    assert card.fingerprint == learned.kb.index.load(card.reference).fingerprint
    assert card.created_at.endswith("Z")
    assert (learned.kb.root / card.reference / "model.safetensors").stat().st_size > 0


def test_the_promoted_model_is_served_on_return(learned):
    status = learned.kb.status()
    assert status["encoder"] == "models/dense/0001"
    assert status["generation"] == learned.report.generation == 2
    assert status["fingerprint"] == learned.kb.models()[0].fingerprint
    firsts = [
        learned.kb.search(question, by=by, k=1)[0].doc_id == doc_id
        for doc_id, question in QUESTIONS.items()
        for by in ("dense", "late", "hybrid")
    ]
    assert np.mean(firsts) > 0.7
    rank_before = [
        [doc for doc, _ in learned.before["dense", question]].index(doc_id)
        for doc_id, question in list(QUESTIONS.items())[::9]
    ]
    assert np.mean(rank_before) > 10


def test_training_leaves_the_parent_as_it_was(learned):
    again = Encoder(learned.parent.model, learned.parent.name)
    assert again.fingerprint == learned.parent.fingerprint
    assert not learned.parent.model.training


def test_dense_and_late_are_those_of_an_index_built_anew(learned, tmp_path):
    now = found_by(learned.kb)
    assert not same(now, learned.before)
    with copied(learned.kb.root, tmp_path / "rebuilt") as rebuilt:
        rebuilt.index.rebuild()
        assert rebuilt.status()["encoder"] == "models/dense/0001"
        assert same(found_by(rebuilt), now)


def test_dense_scores_are_cosines_of_the_promoted_encoder(learned):
    encoder = learned.kb.index.load("models/dense/0001")
    question = QUESTIONS["s7"]
    hits = learned.kb.search(question, by="dense", k=5)
    passages = dict(encoder.documents([hit.passage.text for hit in hits]))
    vector = encoder.query(question).dense
    for position, hit in enumerate(hits):
        assert hit.score == pytest.approx(float(passages[position].dense @ vector), abs=0.02)


def test_versions_can_be_rolled_back_and_promoted(learned, tmp_path):
    after = found_by(learned.kb)
    with copied(learned.kb.root, tmp_path / "moved") as kb, Workspace.open(kb.root) as reader:
        assert same(found_by(reader), after)
        with pytest.raises(ConfigError, match="serves already"):
            kb.promote(1)
        with pytest.raises(ConfigError, match=r"no version 9 of 'dense': known: 1"):
            kb.promote(9)
        assert kb.rollback() == 3
        assert kb.status()["encoder"] == kb.settings.encoder
        assert same(found_by(kb), learned.before)
        assert same(found_by(reader), learned.before)
        assert kb.promote(1) == 4
        assert same(found_by(kb), after)
        assert kb.promote(0) == 5
        assert same(found_by(reader), learned.before)
        assert kb.rollback() == 6
        assert kb.status()["encoder"] == "models/dense/0001"
        assert same(found_by(reader), after)
    with Workspace.open(tmp_path / "moved") as reopened:
        assert same(found_by(reopened), after)


def test_documents_added_later_are_encoded_by_the_promoted_model(learned, tmp_path):
    with copied(learned.kb.root, tmp_path / "grown") as kb:
        kb.add(Document(id="new", text="A red owl and a blue fox were seen in the forest."))
        assert kb.status()["encoder"] == "models/dense/0001"
        foreign = "blim marn vosk shib zant"
        assert "new" in [hit.doc_id for hit in kb.search(foreign, by="dense", k=5)]
        assert "new" in [hit.doc_id for hit in kb.search(foreign, by="late", k=5)]


def test_shuffled_labels_are_not_promoted_and_leave_no_trace_in_what_serves(kb):
    before, status = found_by(kb), kb.status()
    kept_files = files(kb, "index", "vectors")
    encodings = kb.index.corpus.rows("SELECT encoder, count(*) FROM encodings GROUP BY encoder")
    report = kb.learn(trajectories=shuffled_runs(), hyper=HYPER)
    assert report.verdict == "kept"
    assert report.measured[0].low <= 0
    record = read_record(kb.root / "models/dense/0001")
    assert (record.gate.verdict, record.gate.reason) == ("kept", report.reason)
    assert report.generation == status["generation"] == kb.index.generation
    served = ("generation", "encoder", "fingerprint", "documents", "passages")
    assert {name: kb.status()[name] for name in served} == {name: status[name] for name in served}
    assert found_by(kb) == before
    assert files(kb, "index", "vectors") == kept_files
    assert encodings == kb.index.corpus.rows(
        "SELECT encoder, count(*) FROM encodings GROUP BY encoder"
    )
    (card,) = kb.models()
    assert (card.version, card.verdict) == (1, "kept")
    assert card.trajectories != []
    with pytest.raises(ConfigError, match="no other encoder has served"):
        kb.rollback()
    assert Registry(kb.root).reserve()[0] == 2


def unchanged(kb: Workspace) -> bool:
    return not (kb.root / "models").exists() and kb.status()["generation"] == 1


def test_too_few_trajectories_say_what_is_missing(kb):
    few = TRUE_RUNS[:6]
    with pytest.raises(ConfigError, match="too little to learn from") as caught:
        kb.learn(trajectories=few, hyper=HYPER)
    assert f"at least {MIN_EXAMPLES}" in str(caught.value)
    assert f"at least {MIN_HELD_OUT}" in str(caught.value)
    assert "in 6 trajectories" in str(caught.value)
    assert "ask more questions" in str(caught.value.fix)
    with pytest.raises(ConfigError, match="in 0 trajectories"):
        kb.learn(trajectories=[], hyper=HYPER)
    assert unchanged(kb)


def test_runs_over_another_corpus_teach_nothing(kb):
    kb.remove(*list(QUESTIONS)[1:])
    with pytest.raises(ConfigError, match="too little to learn from"):
        kb.learn(hyper=HYPER)
    assert kb.models() == []


def test_only_scores_of_vectors_are_trained(kb):
    with pytest.raises(ConfigError, match="cannot train 'keyword'"):
        kb.learn(retriever="keyword")
    assert unchanged(kb)


def test_the_registry_lists_only_what_was_finished(learned, tmp_path):
    shutil.copytree(learned.kb.root / "models", tmp_path / "models")
    registry = Registry(tmp_path)
    number, folder = registry.reserve()
    (folder / "half-written.bin").write_bytes(b"x")
    assert (number, [card.version for card in registry.cards()]) == (2, [1])
    again, folder = registry.reserve()
    assert (again, list(folder.iterdir())) == (2, [])
    registry.register(registry.card(1).model_copy(update={"version": 2}))
    assert [card.version for card in registry.cards()] == [1, 2]
    assert registry.reserve()[0] == 3
    (folder / "card.json").write_text("{", encoding="utf-8")
    with pytest.raises(CorruptStore, match=r"card\.json' is damaged"):
        registry.cards()
    assert Registry(tmp_path / "empty").cards() == []
