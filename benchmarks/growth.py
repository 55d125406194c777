"""Growth: what each retriever costs at ten thousand, a hundred thousand and a million passages.

Text and vectors come from a stand-in for the encoder (``stand_in.py``), everything else is the
product's own. Each step is a process of its own, so that its memory is its own, and leaves a file
under ``.bench/growth``: the same command goes on where it was stopped. A million passages take some
10 GB there.

``python benchmarks/growth.py [PASSAGES…]``
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from common import WORK
from growth_report import report
from retrail.core.documents import Document
from retrail.core.settings import LateStage, Settings, load_settings
from retrail.retrievers import By, Encoder, Index
from retrail.retrievers.builder import Builder
from retrail.retrievers.staging import Staging
from stand_in import TOKEN_DIM, StandIn

SIZES = (10_000, 100_000, 1_000_000)
DENSE_LIMIT = 100_000
"""Passages up to which a Chroma collection is built: its time grows faster than its size."""
RETRIEVERS = ("keyword", "dense", "late", "late by centroids", "hybrid")
FILTERS = {"": None, " of 1 %": "group = 7", " of 50 %": "group < 50"}
WITHOUT_DENSE = ("keyword", "late by centroids")
QUERIES = 120
KEPT = WORK / "growth"
SOURCE = WORK / "wiki-agent"


class WithoutDense(Builder):
    """Builds all but the Chroma collection."""

    def _build_dense(self, *_: Any, **__: Any) -> None: ...


class GrowthIndex(Index):
    """The product's index, but for the collection where it would take too long."""

    size = 0

    def _builder(self, staging: Staging) -> Builder:
        kind = Builder if self.size <= DENSE_LIMIT else WithoutDense
        return kind(self.root, self.corpus, staging, self.settings)


def opened(size: int, late_stage: LateStage = "union") -> tuple[GrowthIndex, StandIn]:
    """Open the index of a size with the stand-in."""
    stand_in = StandIn(SOURCE, load_settings(SOURCE / "settings.toml"), KEPT)
    settings = Settings(
        encoder=stand_in.name,
        chunk_tokens=0,
        late_codec="int8",
        late_dim=TOKEN_DIM,
        late_stage=late_stage,
    )
    folder = KEPT / str(size)
    folder.mkdir(parents=True, exist_ok=True)
    index = GrowthIndex(folder, settings, cast(Encoder, stand_in))
    index.size = size
    return index, stand_in


def build(size: int) -> dict[str, Any]:
    """Build a corpus; returns seconds by stage, bytes by part and memory."""
    index, stand_in = opened(size)
    seconds: dict[str, float] = {}
    last = began = time.perf_counter()

    def progress(name: str, done: int, total: int | None) -> None:
        nonlocal last
        now = time.perf_counter()
        seconds[name] = seconds.get(name, 0.0) + now - last
        last = now
        if done % 50_000 < 64:
            print(name, done, total, round(now - began), flush=True)

    index.add(stand_in.passages(size), progress=progress)
    total = time.perf_counter() - began
    sizes = {part: _bytes(index.root, glob) for part, glob in _PARTS.items()}
    index.close()
    return {"seconds": seconds, "total": total, "bytes": sizes, **memory()}


_PARTS = {
    "corpus": "corpus.db*",
    "keyword": "index/*/keyword",
    "dense": "index/*/dense",
    "vectors": "vectors/*/dense.f32",
    "tokens": "vectors/*/tokens.*",
    "first stage": "index/*/first_stage",
    "layout": "index/*/layout.npz",
}


def stage(size: int) -> dict[str, Any]:
    """Add one passage, and centroids for all with it."""
    index, stand_in = opened(size, "centroids")
    seconds = _seconds(lambda: index.add([_new(stand_in, "first")]))
    index.close()
    return {"total": seconds, "bytes": _bytes(index.root, _PARTS["first stage"]), **memory()}


def change(size: int) -> dict[str, Any]:
    """Add one passage to a corpus and remove it; returns the seconds of each."""
    index, stand_in = opened(size, "centroids")
    index.snapshot()
    added = _seconds(lambda: index.add([_new(stand_in, "new")]))
    removed = _seconds(lambda: index.remove(["new"]))
    index.close()
    return {"add": added, "remove": removed, **memory()}


def _new(stand_in: StandIn, name: str) -> Document:
    (document,) = stand_in.passages(1)
    return document.model_copy(update={"id": name, "title": f"1 2 {len(name)}"})


def search(size: int, by: str, where: str) -> dict[str, Any]:
    """Search a corpus; returns milliseconds and memory."""
    index, stand_in = opened(size, "centroids" if "centroids" in by else "union")
    wanted, retriever = FILTERS[where], cast(By, by.partition(" ")[0])
    queries = stand_in.questions(QUERIES)
    began = time.perf_counter()
    index.search(queries[0], by=retriever, k=10, where=wanted)
    first = time.perf_counter() - began
    for query in queries[1:20]:
        index.search(query, by=retriever, k=10, where=wanted)
    wall: list[float] = []
    processor: list[float] = []
    for query in queries[20:]:
        began, busy = time.perf_counter(), time.process_time()
        index.search(query, by=retriever, k=10, where=wanted)
        processor.append((time.process_time() - busy) * 1000)
        wall.append((time.perf_counter() - began) * 1000)
    found = {"first": first * 1000, **_middle("", wall), **_middle("cpu ", processor), **memory()}
    index.close()
    return found


def _middle(name: str, taken: list[float]) -> dict[str, float]:
    p95 = statistics.quantiles(taken, n=20)[18]
    return {f"{name}p50": statistics.median(taken), f"{name}p95": p95}


def memory() -> dict[str, float]:
    """Return the process's memory in megabytes: the most there was, and what is held now."""
    status = dict(
        line.split(":", 1)
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    )
    held = {name: int(status[name].split()[0]) / 1024 for name in ("VmRSS", "RssAnon")}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"peak": peak, "rss": held["VmRSS"], "anonymous": held["RssAnon"]}


def main() -> None:
    """Run what has not been run, each in a process of its own."""
    sizes = [int(a) for a in sys.argv[1:] if a.isdigit()] or list(SIZES)
    for size in sizes:
        step(size, "build")
        step(size, "stage")
        step(size, "change")
        for where in FILTERS:
            for by in RETRIEVERS:
                if size <= DENSE_LIMIT or by in WITHOUT_DENSE:
                    step(size, "search", by, where)
    report(KEPT, SIZES, DENSE_LIMIT)


def step(size: int, *what: str) -> dict[str, Any]:
    """Return what a step measured, running it if it has not been run."""
    path = KEPT / f"{size}-{'-'.join(what)}.json"
    if not path.exists():
        command = [sys.executable, __file__, "--step", str(size), *what]
        subprocess.run(command, check=True)
    return json.loads(path.read_text(encoding="utf-8"))


def run_step(size: int, what: str, *arguments: str) -> None:
    """Measure one step and keep it."""
    steps: dict[str, Callable[..., dict[str, Any]]] = {
        "build": build,
        "stage": stage,
        "change": change,
        "search": search,
    }
    found = steps[what](size, *arguments)
    path = KEPT / f"{size}-{'-'.join((what, *arguments))}.json"
    path.write_text(json.dumps(found), encoding="utf-8")
    print(path.stem, {k: v for k, v in found.items() if not isinstance(v, dict)}, flush=True)


def _bytes(root: Path, glob: str) -> int:
    paths = [p for found in root.glob(glob) for p in (found, *found.rglob("*"))]
    return sum(path.stat().st_size for path in paths if path.is_file())


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


if __name__ == "__main__":
    if sys.argv[1:2] == ["--step"]:
        run_step(int(sys.argv[2]), *sys.argv[3:])
    else:
        main()
