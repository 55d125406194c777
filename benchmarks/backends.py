"""Vector engines side by side over the same 14,298 passages: building, milliseconds, recall.

The vectors are those of the ``wiki-agent`` workspace that ``learning.py`` builds. The reference is
one matrix product over all of them, which is exact. The Chroma server runs on this machine.
"""

import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from common import WORK, write_table
from retrail.retrievers import Ranked
from retrail.retrievers.backends import VectorBackend, VectorSchema
from retrail.retrievers.backends.chroma import ChromaBackend
from retrail.retrievers.backends.qdrant import QdrantBackend

QUERIES = 200
NOISE = 0.7
"""Length of the random step from a passage to the query made of it."""


class Passages(NamedTuple):
    """Row ids with their unit vectors, and queries."""

    ids: np.ndarray
    vectors: np.ndarray
    queries: np.ndarray


def main() -> None:
    """Measure and write the table."""
    passages = load()
    exact = lambda query: Ranked.of(passages.ids, passages.vectors @ query).top(10)  # noqa: E731
    wanted = [exact(query) for query in passages.queries]
    rows: list[tuple[object, ...]] = [("numpy, exact", "", *measure(exact, passages, wanted))]
    with tempfile.TemporaryDirectory(dir=WORK) as folder, chroma_server(Path(folder)) as url:
        for name, engine, place in (
            ("Chroma, folder", ChromaBackend, Path(folder, "chroma")),
            ("Chroma, server", ChromaBackend, url),
            ("Qdrant, folder", QdrantBackend, Path(folder, "qdrant")),
        ):
            seconds = build(engine, place, passages)
            began = time.perf_counter()
            backend = engine(place, "passages", VectorSchema(passages.vectors.shape[1]))
            opening = time.perf_counter() - began
            found = measure(lambda query, of=backend: of.search(query, 10), passages, wanted)
            rows.append((name, f"{seconds:.1f}", *found[:3], f"{opening:.2f}"))
            backend.close()
    rows[0] = (*rows[0], "")
    header = ("engine", "build, s", "median, ms", "p95, ms", "recall@10", "open, s")
    title = f"Vector engines, {len(passages.ids):,} passages of {passages.vectors.shape[1]} numbers"
    notes = (
        f"{QUERIES} queries, each a passage's vector and a random step of length {NOISE}, made "
        "unit again. Building ends with closing, opening is without a query. Vectors only, no "
        "payload."
    )
    write_table("backends", title, header, rows, notes)


def load() -> Passages:
    """Read the vectors of the benchmark workspace, and make queries near some of them."""
    generations = sorted((WORK / "wiki-agent" / "index").glob("[0-9]*/layout.npz"))
    if not generations:
        raise SystemExit(f"no index in {WORK / 'wiki-agent'}; run benchmarks/learning.py first")
    with np.load(generations[-1]) as layout:
        ids, rows = layout["ids"], layout["rows"]
    stored = next((WORK / "wiki-agent" / "vectors").glob("*/dense.f32"))
    vectors = np.fromfile(stored, np.float32).reshape(-1, 384)[rows]
    rng = np.random.default_rng(0)
    steps = rng.normal(size=(QUERIES, 384)).astype(np.float32)
    steps *= NOISE / np.linalg.norm(steps, axis=1, keepdims=True)
    queries = vectors[rng.choice(len(vectors), QUERIES, replace=False)] + steps
    return Passages(ids, vectors, queries / np.linalg.norm(queries, axis=1, keepdims=True))


def build(engine: type[ChromaBackend | QdrantBackend], place: Path | str, of: Passages) -> float:
    """Fill a collection as the index does, 2,000 passages at a time; returns seconds."""
    began = time.perf_counter()
    backend: VectorBackend = engine(
        place, "passages", VectorSchema(of.vectors.shape[1]), create=True
    )
    for at in range(0, len(of.ids), 2_000):
        backend.add(of.ids[at : at + 2_000], dense=of.vectors[at : at + 2_000])
    backend.close()
    return time.perf_counter() - began


def measure(
    search: Callable[[np.ndarray], Ranked], of: Passages, wanted: list[Ranked]
) -> tuple[float, float, float]:
    """Return the median and the 95th percentile in milliseconds, and the recall."""
    for query in of.queries[:10]:
        search(query)
    taken, hits = [], 0
    for query, best in zip(of.queries, wanted, strict=True):
        began = time.perf_counter()
        found = search(query)
        taken.append((time.perf_counter() - began) * 1000)
        hits += len(np.intersect1d(found.ids, best.ids))
    return statistics.median(taken), statistics.quantiles(taken, n=20)[18], hits / 10 / len(taken)


@contextmanager
def chroma_server(folder: Path) -> Iterator[str]:
    """Run ``chroma run`` on a free port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    program = shutil.which("chroma", path=str(Path(sys.executable).parent)) or "chroma"
    where = ["--path", str(folder / "server"), "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen([program, "run", *where], stdout=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


if __name__ == "__main__":
    main()
