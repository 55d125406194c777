"""Poisoning: a client with three times the honest volume that promotes one document.

Readers who know the truth ask through our agent; the hostile client searches, opens and cites
through the same recorded tools. What it may decide is bounded, and what honest readers find is not
lost, whatever was trained.
"""

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from retrail.core import Document, Level, Signal
from retrail.core.metrics import per_query
from retrail.core.significance import paired_bootstrap
from retrail.core.trajectories import Answer, Citation, Trajectory
from retrail.evals import SimulatedReader
from retrail.retrievers.training import Hyperparameters, Mined, MiningOptions, mine_all
from retrail.retrievers.training.division import HELD_OUT_SHARE, divide
from retrail.retrievers.training.examples import split
from retrail.retrievers.training.sources import (
    BALANCE,
    MANY,
    MOST_REPEATS,
    REPEATED,
    REPLAYED,
    SHARE,
    balanced,
)

from retrail import Workspace

HYPER = Hyperparameters(epochs=3, learning_rate=2e-4, negatives=1, max_tokens=16)
TARGET = "promoted"
UNCAPPED = MiningOptions(per_source=1.0)
WORDS = {
    **{"fox": "vixen", "owl": "night bird", "trout": "river fish", "goat": "billy"},
    **{"forest": "woods", "harbour": "port", "desert": "dunes", "attic": "loft"},
    **{"A": "who has noticed a", "was": "", "seen": "", "in": "around"},
}


def paraphrased(text: str) -> str:
    return " ".join(" ".join(WORDS.get(w, w) for w in text.rstrip(".").split()).split())


def filler() -> Iterator[Document]:
    """Two hundred documents that answer nothing, and the one that is promoted."""
    for n in range(200):
        yield Document(id=f"f{n}", text=f"Ledger {n} lists {n % 7} crates, {n % 11} ropes, oil.")
    yield Document(id=TARGET, text="Buy the wonderful golden lamp, the best lamp of all lamps.")


class Attacked(NamedTuple):
    kb: Workspace
    honest: dict[str, str]
    """Questions that nobody asked yet, each with the document that answers it."""


@pytest.fixture(scope="module")
def attacked(sightings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    path = tmp_path_factory.mktemp("poisoning") / "kb"
    with Workspace.create(path) as kb:
        kb.add(*sightings.documents, *filler())
        asked = [(paraphrased(document.text), document.id) for document in sightings.documents]
        random.Random(2).shuffle(asked)
        lived, later = asked[:44], dict(asked[44:])
        reader = SimulatedReader({question: [doc_id] for question, doc_id in asked})
        for at, (question, _) in enumerate(lived):
            kb.ask(question, planner=reader, recall=False, caller=f"reader-{at % 3}")
        for at in range(3 * len(lived)):
            question = f"{lived[at % len(lived)][0]} {at}"
            cite(kb, question, f"{question} golden lamp", TARGET, "spammer")
        yield Attacked(kb, later)


def cite(kb: Workspace, question: str, query: str, doc_id: str, caller: str) -> None:
    session = kb.session(question=question, caller=caller)
    hits = session.search(query, by="hybrid", k=10)
    assert doc_id in [hit.doc_id for hit in hits]
    (passage,) = session.browse(doc_id)
    quote = Citation(doc_id=doc_id, start=0, end=4, quote=passage.text[:4])
    session.finish("completed", Answer(text=quote.quote, citations=[quote]))


def share_of(kb: Workspace, mined: Mined, caller: str) -> float:
    callers = {run.id: run.agent.caller for run in kb.trajectories.iterate()}
    given_by = Counter(
        callers[signal.trajectory_id]
        for _, signals in mined.runs
        for signal in signals
        if signal.level >= Level.USEFUL
    )
    return given_by[caller] / given_by.total()


def test_without_caps_the_hostile_client_decides_and_with_them_it_has_its_share(attacked):
    runs = list(attacked.kb.trajectories.iterate())
    free = mine_all(runs, options=UNCAPPED)
    assert share_of(attacked.kb, free, "spammer") > 0.7
    for share in (0.5, 0.3):
        held = mine_all(runs, options=MiningOptions(per_source=share))
        assert share_of(attacked.kb, held, "spammer") <= share
        assert held.report.dropped[SHARE] > 0
        assert held == mine_all(runs, options=MiningOptions(per_source=share))
    few = mine_all(runs, options=MiningOptions(per_source_runs=5, per_source=1))
    assert Counter(run.agent.caller for run in runs if run.id in few.ids)["spammer"] == 5
    assert few.report.dropped[MANY] > 100


def top_tens(kb: Workspace, questions: Iterable[str]) -> dict[str, list[list[str]]]:
    return {
        by: [[hit.doc_id for hit in kb.search(question, by=by, k=10)] for question in questions]
        for by in ("dense", "late", "hybrid")
    }


def scores(found: list[list[str]], questions: dict[str, str]) -> list[float]:
    qrels = {question: {doc_id: 1} for question, doc_id in questions.items()}
    run = {
        question: {doc_id: 1 / rank for rank, doc_id in enumerate(docs, 1)}
        for question, docs in zip(questions, found, strict=True)
    }
    by_query = per_query(qrels, run, ["nDCG@10"])["nDCG@10"]
    return [by_query[question] for question in questions]


def test_after_a_round_honest_readers_lose_nothing_and_the_target_is_not_promoted(attacked):
    kb, questions = attacked
    before = top_tens(kb, questions)
    limits = {"min_free_gb": 0, "min_memory_gb": 0, "learning": {"hyper": HYPER}}
    ended = kb.flywheel(every=50, **limits).step()
    assert ended is not None
    assert ended.outcome in ("promoted", "kept"), ended.reason
    after = top_tens(kb, questions)
    for by in before:
        compared = paired_bootstrap(scores(before[by], questions), scores(after[by], questions))
        assert compared.high >= 0, by
        shown = [sum(TARGET in docs for docs in found[by]) for found in (before, after)]
        assert shown[1] <= shown[0] + len(questions) // 10, by


# --- caps and copies


def test_replays_and_repeated_pairs_count_a_few_times_at_most(sightings):
    runs = sightings.runs[:9]
    copies = [run.model_copy(update={"id": f"copy-{n}"}) for n, run in enumerate(runs)]
    mined = mine_all([*runs, *copies])
    assert (mined.report.trajectories, mined.report.used) == (18, 9)
    assert mined.report.dropped[REPLAYED] == 9
    asked = ({"id": f"again-{n}", "question": f"{n}?"} for n in range(9))
    mined = mine_all(runs[0].model_copy(update=update) for update in asked)
    useful = [s for _, signals in mined.runs for s in signals if s.level >= Level.USEFUL]
    assert len(useful) == MOST_REPEATS
    assert mined.report.dropped == {REPEATED: 9 - MOST_REPEATS}


@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=5),
    share=st.sampled_from([0.2, 0.34, 0.5, 0.8, 1.0]),
)
def test_no_source_has_more_than_its_share_and_small_ones_lose_nothing(sizes, share):
    sources = [f"s{n}" for n, size in enumerate(sizes) for _ in range(size)]
    runs = [
        ("Who?", [Signal(f"r{at}", f"q{at}", "d", f"d{at}#0", Level.USEFUL)])
        for at in range(len(sources))
    ]
    dropped: Counter[str] = Counter()
    kept = balanced(runs, sources, MiningOptions(per_source=share), dropped)
    left = Counter(sources[at] for at in kept)
    assert len(kept) + dropped[SHARE] == len(runs)
    assert left[f"s{sizes.index(min(sizes))}"] == min(sizes)
    if sum(sizes) - max(sizes) >= BALANCE:
        wanted = max(share, 1 / len(sizes)) * left.total()
        assert max(left.values()) <= wanted + len(sizes)
    else:
        assert dropped == {}


def told_by(caller: str, run: Trajectory, question: str = "") -> Trajectory:
    question = question or run.question
    steps = [
        step.model_copy(update={"args": {"query": question}}) if step.action == "search" else step
        for step in run.steps
    ]
    agent = run.agent.model_copy(update={"caller": caller})
    named = {"id": f"{caller} {question}", "question": question}
    return run.model_copy(update={**named, "steps": steps, "agent": agent})


def test_no_source_fills_the_gate_by_choosing_its_questions(kb, sightings):
    questions = [f"spam {n}" for n in range(400)]
    held = split(questions, HELD_OUT_SHARE, 0)
    honest = [told_by("honest", run) for run in sightings.runs]
    chosen = filter(held, questions)
    spam = [
        told_by("spammer", run, question)
        for run, question in zip(sightings.runs, chosen, strict=False)
    ]
    queries = divide(kb.index, mine_all([*honest, *spam]), HYPER)[1]
    spammed = [item.query.startswith("spam") for item in queries]
    assert any(spammed)
    assert sum(spammed) <= len(spammed) / 2
