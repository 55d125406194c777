"""First stages of late interaction: how much of exact MaxSim's best each proposes, and how fast.

Exact MaxSim over all passages is the reference. Depth is what a stage proposes: half each from
dense and keyword search for the union. Milliseconds are of proposing and scoring, with the query's
vectors given.

``python benchmarks/first_stages.py``
"""

import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from common import DATA, WORK, dataset, dev_half, workspace, write_table
from numpy.typing import NDArray
from retrail.retrievers import Snapshot
from retrail.retrievers.beir import read_queries
from retrail.retrievers.centroids import Centroids
from retrail.retrievers.first_stage import FirstStage, build_stage, propose
from retrail.retrievers.muvera import Muvera
from retrail.retrievers.stage_parts import Parts
from swap import built

from retrail import Workspace

QUERIES = 60
DEPTHS = (200, 400, 1000)
PROBES = (8, 16, 32)
ENCODINGS = ((4, 10, 8), (4, 20, 16))
"""Planes, repetitions and projected dimensions: 1,280 and 5,120 numbers a passage."""

Ids = NDArray[np.int64]


class Stage(NamedTuple):
    """One way to propose candidates."""

    name: str
    propose: Callable[[str, int], Ids]
    """For a query, so many."""
    bytes: float
    """A passage."""
    seconds: float
    """To build it."""


def main() -> None:
    """Measure both corpora and write the table."""
    rows: list[tuple[object, ...]] = []
    agents = DATA / "trajectories" / "wiki_agent" / "queries.jsonl"
    with Workspace.open(built()) as opened:
        queries = [query.text for query in read_queries(agents).values()]
        rows += measured("wiki-agent", opened, queries)
    data = dataset("scifact")
    with workspace("scifact-192", data, chunk_tokens=0, late_dim=192) as opened:
        rows += measured("scifact", opened, [data.queries[query].text for query in dev_half(data)])
    header = ("corpus", "first stage", "bytes a passage", "built in s", "depth", "recall@10")
    header = (*header, "recall@100", "propose p50 ms", "p95", "with MaxSim p50 ms", "p95")
    notes = (
        "Recall of the 10 and the 100 best by exact MaxSim over all passages, fp16 with 192 "
        f"dimensions, {QUERIES} queries: whole questions for wiki-agent (14,298 passages of 103 "
        "token vectors), claims for SciFact (5,183 of 240). `centroids n` probes n lists a query "
        "token; `muvera n` has encodings of n numbers, int8, searched exactly. One core of two, "
        "on which four to seven jobs ran: the times compare stages, they are not what a free "
        "machine takes.\n\nWhy muvera is searched exactly: 5,120 numbers take 5 kB a passage as "
        "they are read here, and 20 kB in Chroma, which holds single precision in memory, so that "
        "a graph of them was not tried."
    )
    write_table("first_stages", "First stages against exact MaxSim", header, rows, notes)


def measured(name: str, opened: Workspace, queries: Sequence[str]) -> list[tuple[object, ...]]:
    """Measure every stage at every depth."""
    snapshot, queries = opened.index.snapshot(), queries[:QUERIES]
    for query in queries:
        snapshot.encode(query)  # kept: encoding is not what is measured
    exact = {query: best(snapshot, query, snapshot.layout.ids)[:100] for query in queries}
    rows: list[tuple[object, ...]] = []
    for stage in stages(name, opened):
        for depth in DEPTHS:
            recalls, proposing, whole = [], [], []
            for query in queries:
                began = time.perf_counter()
                candidates = stage.propose(query, depth)
                proposed = time.perf_counter()
                best(snapshot, query, candidates)
                whole.append((time.perf_counter() - began) * 1000)
                proposing.append((proposed - began) * 1000)
                found = np.isin(exact[query], candidates)
                recalls.append((found[:10].mean(), found.mean()))
            row = (name, stage.name, f"{stage.bytes:,.0f}", f"{stage.seconds:.0f}", depth)
            rows.append((*row, *map(float, np.mean(recalls, axis=0)), *_ms(proposing), *_ms(whole)))
            print(*rows[-1], flush=True)
    return rows


def best(snapshot: Snapshot, query: str, ids: Ids) -> Ids:
    """Rank by exact MaxSim."""
    return snapshot._late.score(snapshot.encode(query).tokens, ids).ids


def stages(name: str, opened: Workspace) -> list[Stage]:
    """Build each stage, or take what an earlier run built."""
    snapshot = opened.index.snapshot()

    def union(query: str, depth: int) -> Ids:
        return snapshot._candidates(query, depth // 2, None)[1]

    found = [Stage("dense ∪ keyword", union, 0, 0)]
    folder, seconds = build(opened, Centroids, WORK / "first_stages" / name)
    for probes in PROBES:
        stage = Centroids(Parts.open(folder), probes)
        found += _stages(f"centroids {probes}", stage, snapshot, folder, seconds)
    for planes, repetitions, projected in ENCODINGS:
        numbers = 2**planes * repetitions * projected
        drawn = {"planes": planes, "repetitions": repetitions, "projected": projected}
        kind = type("Drawn", (Muvera,), drawn)
        folder, seconds = build(opened, kind, WORK / "first_stages" / f"{name}-{numbers}")
        stage = Muvera(Parts.open(folder))
        found += _stages(f"muvera {numbers:,}", stage, snapshot, folder, seconds)
    return found


def build(opened: Workspace, kind: type[FirstStage], folder: Path) -> tuple[Path, float]:
    """Build a stage once; returns its folder and the seconds it took."""
    files, noted = opened.index.snapshot()._files, folder / "seconds.txt"
    if not noted.exists():
        shutil.rmtree(folder, ignore_errors=True)
        sql = "SELECT offset, length FROM encodings WHERE encoder = ? ORDER BY row"
        places = np.array(opened.index.corpus.rows(sql, (files.name,)), np.int64)
        began = time.perf_counter()
        build_stage(kind, folder, None, files, lambda first: places[first:])
        noted.write_text(str(time.perf_counter() - began), encoding="utf-8")
    return folder, float(noted.read_text(encoding="utf-8"))


def _stages(
    name: str, stage: FirstStage, snapshot: Snapshot, folder: Path, seconds: float
) -> list[Stage]:
    """Return a stage by itself, and with keyword search in the place of half of it."""

    def proposed(query: str, depth: int) -> Ids:
        tokens = snapshot._late.project(snapshot.encode(query).tokens)
        return propose(stage, tokens, snapshot.layout, depth)

    def both(query: str, depth: int) -> Ids:
        return np.union1d(snapshot.keyword(query, depth // 2).ids, proposed(query, depth // 2))

    size = sum(path.stat().st_size for path in folder.glob("*.npy")) / len(snapshot.layout.ids)
    return [Stage(name, proposed, size, seconds), Stage(f"{name} ∪ keyword", both, size, seconds)]


def _ms(taken: list[float]) -> tuple[float, float]:
    return statistics.median(taken), statistics.quantiles(taken, n=20)[18]


if __name__ == "__main__":
    main()
