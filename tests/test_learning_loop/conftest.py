"""Sixty-four documents in plain English, a run for each, and flywheels over copies of them.

The runs' questions are in invented words; what they mean can be learned from the runs of others.
"""

import itertools
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from retrail.agents.flywheel import Flywheel
from retrail.core import (
    AgentInfo,
    Answer,
    Citation,
    Document,
    HitRecord,
    Observation,
    Step,
    Trajectory,
)
from retrail.retrievers.training import Hyperparameters

from retrail import Workspace

COLOURS = {"red": "blim", "green": "tark", "blue": "vosk", "white": "drel"}
ANIMALS = {"fox": "shib", "owl": "marn", "trout": "plex", "goat": "wuld"}
PLACES = {"forest": "zant", "harbour": "creb", "desert": "fosk", "attic": "yilt"}
QUICK = Hyperparameters(mode="adapter", epochs=2, negatives=2, max_tokens=16)


class Sightings(NamedTuple):
    """What is known, and what was lived through."""

    documents: list[Document]
    runs: list[Trajectory]


def run_of(n: int, question: str, shown: list[str], right: str) -> Trajectory:
    """Ten documents shown, one opened and cited."""
    at = f"2026-{1 + n // 28:02}-{1 + n % 28:02}T09:00:00.000Z"
    hits = [HitRecord(passage_id=f"{d}#0", doc_id=d, rank=r) for r, d in enumerate(shown, 1)]
    opened = Observation(doc_id=right, passage_ids=[f"{right}#0"])
    query = {"query": question, "k": 10}
    return Trajectory(
        id=f"run-{n:03}",
        question=question,
        status="completed",
        agent=AgentInfo(planner="simulated-reader"),
        started_at=at,
        steps=[
            Step(n=1, at=at, action="search", args=query, observation=Observation(hits=hits)),
            Step(n=2, at=at, action="browse", observation=opened),
            Step(n=3, at=at, action="answer", thought="This answers it."),
        ],
        answer=Answer(text="A", citations=[Citation(doc_id=right, start=0, end=1, quote="A")]),
    )


@pytest.fixture(scope="session")
def sightings() -> Sightings:
    """The documents, and one run for each in the same order."""
    things = list(itertools.product(COLOURS.items(), ANIMALS.items(), PLACES.items()))
    rng, documents, runs = random.Random(1), list[Document](), list[Trajectory]()
    for n, words in enumerate(things):
        (colour, animal, place), foreign = zip(*words, strict=True)
        documents.append(Document(id=f"s{n}", text=f"A {colour} {animal} was seen in the {place}."))
        others = [f"s{other}" for other in rng.sample(range(len(things)), 10) if other != n]
        shown = [f"s{n}", *others[:9]]
        rng.shuffle(shown)
        runs.append(run_of(n, " ".join(foreign), shown, f"s{n}"))
    return Sightings(documents, runs)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small gain nothing from threads, and lose much where cores are shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def original(sightings: Sightings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace without runs, which nobody changes."""
    path = tmp_path_factory.mktemp("sightings") / "original"
    with Workspace.create(path) as kb:
        kb.add(*sightings.documents)
    return path


@pytest.fixture
def kb(original: Path, tmp_path: Path) -> Iterator[Workspace]:
    """A copy of one's own."""
    shutil.copytree(original, tmp_path / "kb")
    with Workspace.open(tmp_path / "kb") as workspace:
        yield workspace


@pytest.fixture
def live(sightings: Sightings) -> Callable[..., None]:
    """Give a function that records some of the runs in a workspace."""

    def record(kb: Workspace, first: int = 0, last: int = 64) -> None:
        for run in sightings.runs[first:last]:
            kb.trajectories.start(run)

    return record


@pytest.fixture
def wheel() -> Callable[..., Flywheel]:
    """Give a function that makes a flywheel, whatever room the machine of the tests has."""

    def make(kb: Workspace, *, hyper: Hyperparameters = QUICK, **options: Any) -> Flywheel:
        progress = options.pop("progress", lambda *told: None)
        free = {"min_free_gb": 0, "min_memory_gb": 0}
        return kb.flywheel(learning={"hyper": hyper}, progress=progress, **(free | options))

    return make
