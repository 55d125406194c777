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
from typing import Any, NamedTuple

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

    def exact(query: np.ndarray, k: int) -> Ranked:
        return Ranked.of(passages.ids, passages.vectors @ query).top(k)

    wanted = [exact(query, 100) for query in passages.queries]
    rows: list[tuple[Any, ...]] = [
        ("numpy, exact", "", "", passages.vectors.nbytes, *measure(exact, passages, wanted))
    ]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with chroma_server(folder) as url:
            for name, engine, place, stored in (
                ("Chroma, folder", ChromaBackend, folder / "chroma", folder / "chroma"),
                ("Chroma, server", ChromaBackend, url, folder / "server"),
                ("Qdrant, folder", QdrantBackend, folder / "qdrant", folder / "qdrant"),
            ):
                built = build(engine, place, passages)
                rows.append((name, *opened(engine, place, stored, built, passages, wanted)))
            change(folder / "chroma", passages)
            place = folder / "chroma"
            found = opened(ChromaBackend, place, place, "", passages, wanted)
            rows.append(("Chroma, folder, half replaced", *found))
    header = (
        *("engine", "build, s", "first answer, s", "MB"),
        *("median, ms", "p95, ms", "recall@10", "recall@100"),
    )
    shown = [(*row[:3], f"{row[3] / 1e6:.0f}", *row[4:]) for row in rows]
    title = f"Vector engines, {len(passages.ids):,} passages of {passages.vectors.shape[1]} numbers"
    notes = (
        f"{QUERIES} queries, each a passage's vector and a random step of length {NOISE}, made "
        "unit again; timed for the 10 best, one at a time. Building ends with closing; the first "
        "answer is the opening and one query. Vectors only, no payload. Chroma's graph: 32 "
        "neighbours, 200 candidates while building and searching. Embedded Qdrant compares every "
        "vector; its server was not there to be measured. Half of the passages were replaced by "
        "themselves: opening then includes looking for what the graph has lost."
    )
    write_table("backends", title, header, shown, notes)


def opened(
    engine: type[ChromaBackend | QdrantBackend],
    place: Path | str,
    stored: Path,
    built: str,
    passages: Passages,
    wanted: list[Ranked],
) -> tuple[Any, ...]:
    """Open what was built and measure it; returns the columns of the table."""
    began = time.perf_counter()
    backend = engine(place, "passages", VectorSchema(passages.vectors.shape[1]))
    backend.search(passages.queries[0], 10)
    opening = time.perf_counter() - began
    size = sum(path.stat().st_size for path in stored.rglob("*") if path.is_file())
    found = measure(backend.search, passages, wanted)
    backend.close()
    return built, f"{opening:.2f}", size, *found


def change(place: Path, passages: Passages) -> None:
    """Replace every second passage by itself."""
    backend = ChromaBackend(place, "passages", VectorSchema(passages.vectors.shape[1]), create=True)
    backend.delete(passages.ids[::2])
    backend.add(passages.ids[::2], dense=passages.vectors[::2])
    backend.close()


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


def build(engine: type[ChromaBackend | QdrantBackend], place: Path | str, of: Passages) -> str:
    """Fill a collection as the index does, 2,000 passages at a time; returns seconds."""
    began = time.perf_counter()
    backend: VectorBackend = engine(
        place, "passages", VectorSchema(of.vectors.shape[1]), create=True
    )
    for at in range(0, len(of.ids), 2_000):
        backend.add(of.ids[at : at + 2_000], dense=of.vectors[at : at + 2_000])
    backend.close()
    return f"{time.perf_counter() - began:.1f}"


def measure(
    search: Callable[[np.ndarray, int], Ranked], of: Passages, wanted: list[Ranked]
) -> tuple[float, float, float, float]:
    """Return the median and the 95th percentile in milliseconds, and recall@10 and @100."""
    for query in of.queries[:10]:
        search(query, 10)
    taken, hits = [], {10: 0, 100: 0}
    for query in of.queries:
        began = time.perf_counter()
        search(query, 10)
        taken.append((time.perf_counter() - began) * 1000)
    for k in hits:
        for query, best in zip(of.queries, wanted, strict=True):
            hits[k] += len(np.intersect1d(search(query, k).ids, best.ids[:k]))
    recalls = [found / k / len(of.queries) for k, found in hits.items()]
    return statistics.median(taken), statistics.quantiles(taken, n=20)[18], recalls[0], recalls[1]


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
