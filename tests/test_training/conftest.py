"""A small workspace with runs that say all that a run can: thoughts, rejections, times, citations.

Documents are plain English, queries are in invented words, so that only the runs can explain them.
"""

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from retrail.agents import Workspace
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

COLOURS = {"red": "blim", "green": "tark", "blue": "vosk"}
ANIMALS = {"fox": "shib", "owl": "marn", "trout": "plex", "goat": "wuld"}
PLACES = {"forest": "zant", "harbour": "creb", "desert": "fosk", "attic": "yilt"}
AT = "2026-11-20T09:00:00.000Z"
PLAN, FOUND, WRONG = "I look for the sighting.", "This one gives it.", "That is not relevant."


def sightings() -> Iterator[tuple[str, str, str]]:
    """48 documents: id, text, and the query that asks for it."""
    for n, words in enumerate(itertools.product(*(d.items() for d in (COLOURS, ANIMALS, PLACES)))):
        (colour, animal, place), foreign = zip(*words, strict=True)
        yield f"s{n}", f"A {colour} {animal} was seen in the {place}.", " ".join(foreign)


def question_of(query: str) -> str:
    return f"Which sighting was it: {query}?"


def a_run(n: int, answer: str, query: str, names: list[str]) -> Trajectory:
    """Seven shown; the second opened and rejected, the third opened and found right."""
    others = [names[(n + 5 * k) % len(names)] for k in range(1, 7)]
    shown = [*others[:2], answer, *others[2:]]
    hits = [HitRecord(passage_id=f"{d}#0", doc_id=d, rank=r) for r, d in enumerate(shown, 1)]

    def opened(doc: str, seconds: float) -> dict[str, Any]:
        seen = Observation(doc_id=doc, passage_ids=[f"{doc}#0"], dwell_ms=1000 * seconds)
        return {"action": "browse", "observation": seen}

    told: list[dict[str, Any]] = [
        {
            "action": "search",
            "args": {"query": query},
            "observation": Observation(hits=hits),
            "thought": PLAN,
        },
        opened(shown[1], 5),
        opened(answer, 20 + n) | {"thought": WRONG},
        {"action": "answer", "thought": FOUND * (1 + n % 3)},
    ]
    cited = [Citation(doc_id=answer, start=0, end=1, quote="A")] if n % 2 else []
    return Trajectory(
        id=f"run-{n:02}",
        question=question_of(query),
        status="completed",
        agent=AgentInfo(planner="test"),
        steps=[Step(n=i, at=AT, **step) for i, step in enumerate(told, 1)],
        answer=Answer(text="A", citations=cited),
    )


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace that nobody changes; the tests work on copies."""
    path, all_of = tmp_path_factory.mktemp("training") / "kb", list(sightings())
    names = [name for name, _, _ in all_of]
    with Workspace.create(path) as kb:
        kb.add(*(Document(id=name, text=text) for name, text, _ in all_of))
        for n, (name, _, query) in enumerate(all_of):
            kb.trajectories.start(a_run(n, name, query, names))
    return path


@pytest.fixture
def copied(built: Path, tmp_path: Path) -> Callable[[str], Path]:
    def copy(name: str) -> Path:
        return Path(shutil.copytree(built, tmp_path / name))

    return copy


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Texts this short gain nothing from threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
