"""Learned fusion: the fit against brute force, and its whole way from runs to what serves and back.

The workspace of the tests begins with weights that look at meaning alone, while its questions name
places by codes that only words tell apart: what runs find useful can be had by weights alone.
"""

import itertools
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from retrail.agents import Workspace
from retrail.core import (
    AgentInfo,
    ConfigError,
    CorruptStore,
    Document,
    HitRecord,
    Observation,
    Step,
    Trajectory,
)
from retrail.core.settings import FusionWeights, Settings
from retrail.retrievers.fusion import fuse
from retrail.retrievers.learned_fusion import FUSION, LearnedFusion, fused
from retrail.retrievers.training import Example, Hyperparameters, Registry
from retrail.retrievers.training.fusion import UNPROPOSED, Choice, _loss, choices, fit, train_fusion
from retrail.serving import checks
from retrail.serving.cli import app
from typer.testing import CliRunner

AT = "2026-11-20T09:00:00.000Z"
ONE, TWO = "models/dense/0001", "models/dense/0002"
COLOURS = {"red": "crimson", "blue": "azure", "green": "emerald", "yellow": "golden"}
ANIMALS = {
    "dog": "hound",
    "cat": "kitten",
    "horse": "stallion",
    "rabbit": "hare",
    "snake": "serpent",
    "pig": "swine",
    "bird": "sparrow",
    "cow": "ox",
    "wolf": "coyote",
    "frog": "toad",
}
THINGS = list(itertools.product(COLOURS, ANIMALS))
DOCUMENTS = [
    Document(id=f"d{n}", text=f"A {colour} {animal} was seen.")
    for n, (colour, animal) in enumerate(THINGS)
]
QUESTIONS = [f"{COLOURS[colour]} {ANIMALS[animal]}" for colour, animal in THINGS]
ADAPTER = Hyperparameters(mode="adapter", epochs=1, learning_rate=1e-3, max_tokens=16)
FUSED = Hyperparameters(mode="fusion")
START = FusionWeights(keyword=2.0, dense=0.0, late=0.0)


def runs() -> list[Trajectory]:
    """One run a question: five documents shown, one opened and found useful."""
    chance, made = random.Random(1), []
    for n, question in enumerate(QUESTIONS):
        shown = [n, *chance.sample([other for other in range(len(THINGS)) if other != n], 4)]
        chance.shuffle(shown)
        hits = [
            HitRecord(passage_id=f"d{d}#0", doc_id=f"d{d}", rank=rank)
            for rank, d in enumerate(shown, 1)
        ]
        opened = Observation(doc_id=f"d{n}", passage_ids=[f"d{n}#0"])
        steps = [
            Step(
                n=1,
                at=AT,
                action="search",
                args={"query": question},
                observation=Observation(hits=hits),
            ),
            Step(n=2, at=AT, action="browse", observation=opened),
            Step(n=3, at=AT, action="answer", thought="This answers it."),
        ]
        run = Trajectory(
            id=f"run-{n:02}",
            question=question,
            status="completed",
            agent=AgentInfo(planner="simulated-reader"),
            steps=steps,
        )
        made.append(run)
    return made


# The fit

CHOICES = st.builds(
    lambda seed, count, width: [
        Choice(values[0], values[1:], float(chance.uniform(0.1, 2)))
        for chance in [np.random.default_rng(seed)]
        for values in (
            chance.normal(size=(int(chance.integers(2, 9)), width)) for _ in range(count)
        )
    ],
    st.integers(0, 10_000),
    st.integers(1, 12),
    st.integers(3, 5),
)


def width(found: list[Choice]) -> int:
    return len(found[0].useful)


@given(CHOICES, st.integers(0, 100))
def test_the_gradient_is_that_of_the_loss(found: list[Choice], seed: int):
    loss = _loss(found, np.ones(width(found)))
    at = np.random.default_rng(seed).uniform(0, 3, width(found))
    steps = 1e-6 * np.eye(width(found))
    numeric = [(loss(at + step)[0] - loss(at - step)[0]) / 2e-6 for step in steps]
    assert loss(at)[1] == pytest.approx(numeric, abs=1e-6)


@given(CHOICES)
def test_the_loss_is_infonce_over_the_candidates(found: list[Choice]):
    weights = np.linspace(0.5, 1.5, width(found))
    expected = 0.0
    for choice in found:
        scores = np.exp([choice.useful @ weights, *(choice.others @ weights)])
        expected -= choice.weight * np.log(scores[0] / scores.sum())
    expected /= sum(choice.weight for choice in found)
    assert _loss(found, weights)(weights)[0] == pytest.approx(expected)


@given(CHOICES, st.integers(0, 100))
def test_no_other_weights_are_better_than_those_found(found: list[Choice], seed: int):
    start = np.ones(width(found))
    try:
        weights, losses = fit(found, start, 3)
    except ConfigError as error:
        assert "by every retriever" in str(error)  # noqa: PT017
        return
    assert (weights >= 0).all()
    assert weights[:3].sum() == pytest.approx(3.0)
    assert losses[-1] <= losses[0]
    loss = _loss(found, start)
    others = np.random.default_rng(seed).uniform(0, 4, (20, width(found)))
    assert losses[-1] <= min(loss(other)[0] for other in others) + 1e-6


def test_what_tells_nothing_loses_to_what_tells():
    chance = np.random.default_rng(0)
    found = []
    for _ in range(200):
        values = chance.normal(size=(30, 3))
        values[0, 1] += 3.0
        found.append(Choice(values[0], values[1:]))
    weights, _ = fit(found, np.ones(3), 3)
    assert weights[1] > 2.5


def test_what_contradicts_every_retriever_is_refused():
    found = [Choice(np.full(3, -9.0), np.zeros((5, 3)))] * 50
    with pytest.raises(ConfigError, match="by every retriever"):
        fit(found, np.ones(3), 3)
    with pytest.raises(ConfigError, match="proposes none"):
        fit([], np.ones(3), 3)


# What a folder says


def test_learned_weights_take_the_place_of_the_settings(tmp_path: Path):
    settings = Settings(fusion="rrf", boosts={"title": 0.0, "host": 0.3})
    assert fused(settings, tmp_path) is settings
    learned = LearnedFusion(weights=FusionWeights(keyword=0.5), boosts={"title": 2.0})
    learned.save(tmp_path)
    found = fused(settings, tmp_path)
    assert (found.fusion, found.weights) == ("zscore", FusionWeights(keyword=0.5))
    assert found.boosts == {"title": 2.0, "host": 0.3}
    assert found.candidates == settings.candidates


@pytest.mark.parametrize("text", ["", "{", '{"weights": {"keyword": -1}}', '{"weights": 1}'])
def test_damage_is_told_with_what_mends_it(tmp_path: Path, text: str):
    (tmp_path / FUSION).write_text(text, encoding="utf-8")
    with pytest.raises(CorruptStore, match="models promote 0"):
        fused(Settings(), tmp_path)


# From runs to what serves


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace where learned weights serve."""
    root = tmp_path_factory.mktemp("fusion") / "kb"
    with Workspace.create(root, weights=START.model_dump()) as kb:
        kb.add(*DOCUMENTS)
        for run in runs():
            kb.trajectories.start(run)
        report = kb.learn(hyper=FUSED)
        assert report.verdict == "promoted", report.reason
        assert "by hybrid, significant" in report.reason
        shown = {row.retriever: row.difference for row in report.measured}
        assert (shown["dense"], shown["late"]) == (0.0, 0.0)
        assert shown["hybrid"] > 0.1
    return root


@pytest.fixture
def kb(learned: Path, tmp_path: Path) -> Iterator[Workspace]:
    shutil.copytree(learned, tmp_path / "kb")
    with Workspace.open(tmp_path / "kb") as opened:
        yield opened


def found_by(kb: Workspace) -> dict[str, float]:
    return {
        f"{question} {hit.doc_id}": hit.score
        for question in QUESTIONS[::8]
        for hit in kb.search(question, k=5)
    }


def weights_of(kb: Workspace) -> FusionWeights:
    return kb.index.snapshot().settings.weights


def test_learned_weights_serve_and_change_nothing_else(kb: Workspace):
    assert kb.settings.weights == START
    assert (kb.status()["encoder"], kb.status()["query"]) == ("all-MiniLM-L6-v2", ONE)
    weights = weights_of(kb)
    assert weights.keyword < START.keyword
    assert weights.keyword + weights.dense + weights.late == pytest.approx(2.0)
    assert weights.sparse == START.sparse
    snapshot, question = kb.index.snapshot(), QUESTIONS[5]
    scores = fuse(snapshot.rankings(question, 100), weights.model_dump()).scores
    hits = kb.search(question, k=5)
    assert hits[0].doc_id == "d5"
    assert [hit.score for hit in hits] == pytest.approx(scores[:5].tolist())


def test_rollback_and_promote_are_one_row(kb: Workspace):
    with Workspace.open(kb.root) as reader:
        better = found_by(reader)
        kb.rollback()
        assert weights_of(reader) == START
        before = found_by(reader)
        assert before != better
        kb.promote(1)
        assert found_by(reader) == better
        kb.promote(0)
        assert found_by(reader) == before


def test_documents_added_later_are_found_with_learned_weights(kb: Workspace):
    weights = weights_of(kb)
    kb.add(Document(id="new", text="A purple elephant was seen."))
    assert weights_of(kb) == weights
    assert kb.search("violet mammoth", k=1)[0].doc_id == "new"


def learn_and_serve(kb: Workspace, hyper: Hyperparameters) -> None:
    report = kb.learn(hyper=hyper, accept_equal=True)
    if report.verdict == "kept":
        kb.promote(report.version)


def test_versions_trained_later_inherit_the_weights(kb: Workspace):
    weights = weights_of(kb)
    learn_and_serve(kb, ADAPTER)
    assert kb.status()["query"] == TWO
    assert weights_of(kb) == LearnedFusion.read(kb.root / TWO).weights == weights


def test_weights_learned_over_an_adapter_keep_its_vectors(kb: Workspace):
    plain = kb.index.snapshot().encode(QUESTIONS[0]).dense
    learn_and_serve(kb, ADAPTER)
    vector = kb.index.snapshot().encode(QUESTIONS[0]).dense
    assert vector != pytest.approx(plain)
    for version in (3, 4):  # the second is learned over the first
        learn_and_serve(kb, FUSED)
        assert kb.status()["query"] == f"models/dense/{version:04d}"
        assert kb.index.snapshot().encode(QUESTIONS[0]).dense == pytest.approx(vector)
    assert kb.prune(1) == [1]  # 3 may serve again, and both need 2
    assert (kb.root / TWO / "query_adapter.npz").exists()
    assert kb.index.snapshot().encode("a new query").dense.shape == vector.shape
    with pytest.raises(ConfigError, match="were deleted"):
        kb.promote(1)


def test_damage_stops_searches_and_promoting_mends_it(kb: Workspace):
    (kb.root / ONE / FUSION).write_text("{}", encoding="utf-8")
    kb.close()
    with pytest.raises(CorruptStore, match=FUSION):
        kb.search(QUESTIONS[0])
    broken = [check.name for check in checks.workspace(kb) if check.state == "broken"]
    assert "query side" in broken
    kb.promote(0)
    assert kb.search(QUESTIONS[0])


def test_useful_passages_that_are_no_candidates_are_counted(kb: Workspace):
    told = kb.root / "settings.toml"
    few = told.read_text("utf-8").replace("candidates = 100", "candidates = 3")
    told.write_text(few, encoding="utf-8")
    examples = [Example("", QUESTIONS[0], f"d{n}#0", (), 1.0) for n in (0, 39, 0)]
    with Workspace.open(kb.root) as opened:
        found, skipped = choices(opened.index, examples)
        assert (len(found), skipped) == (2, 1)
        assert [choice.others.shape for choice in found] == [(2, 4)] * 2
        dropped = Counter[str]()
        train_fusion(opened.index, examples, kb.root, dropped)
        assert dropped == {UNPROPOSED: 1}


def run(kb: Workspace, *arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, [*arguments, f"--workspace={kb.root}"])
    assert done.exit_code == code, done.output
    return done.stderr if code else done.stdout


def test_the_commands(kb: Workspace):
    listed = run(kb, "models", "list")
    card = Registry(kb.root).card(1)
    gain: Any = card.measured[-1]
    assert "fusion" in listed
    assert f"{gain.difference:+.3f}" in listed
    assert 'mode = "fusion"' in run(kb, "learn", "--mode", "fusion", "--print-config")
    assert "'infonce'" in run(kb, "learn", "--mode", "fusion", "--loss", "mw", code=2)
    assert "LoRA" in run(kb, "learn", "--mode", "fusion", "--lora", "4", code=2)
