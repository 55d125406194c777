"""What serves at once, and what must be indexed first: learning from agents' runs over Wikipedia.

The runs of three quarters of the questions are learned from; the sub-queries of the others are
measured against what their runs found useful, and the whole questions against their gold passages.
A linear map of query vectors, a query encoder and a whole model compensated for its drift (QDC)
search the vectors of the encoder before; the same whole model then encodes the passages anew.
"""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from common import DATA, WORK, write_table
from retrail.core.metrics import per_query
from retrail.memory.formats import import_files
from retrail.retrievers.beir import read_qrels, read_queries
from retrail.retrievers.readers import ReadReport, read_paths
from retrail.retrievers.snapshot import By
from retrail.retrievers.training import (
    Example,
    Hyperparameters,
    build_examples,
    held_out,
    mine_all,
    train,
)
from retrail.retrievers.training.drift import save_drift
from retrail.retrievers.training.examples import HeldOut, normalise, split
from retrail.retrievers.training.frozen import stored_vectors

from retrail import Workspace

SOURCE = DATA / "trajectories" / "wiki_agent"
TRAINED: tuple[By, ...] = ("dense", "late", "hybrid")
HYPER = Hyperparameters(target="both")
ADAPTER = HYPER.model_copy(update={"mode": "adapter", "epochs": 4})
QUERY = HYPER.model_copy(update={"mode": "query"})
HEADER = (
    "served",
    "retriever",
    "sub-queries MRR@10",
    "nDCG@10",
    "questions R@5",
    "share of the re-indexed gain (nDCG@10)",
    "s to train",
    "s to prepare",
    "s from verdict to served",
)


class Held(NamedTuple):
    """What is measured: sub-queries with what was useful, questions with their gold passages."""

    queries: list[HeldOut]
    questions: list[HeldOut]


class Served(NamedTuple):
    """One way to serve, with what it finds and what it took."""

    name: str
    figures: dict[By, tuple[float, ...]]
    """MRR@10 and nDCG@10 of sub-queries, R@5 of questions."""
    seconds: tuple[float, ...] = ()
    """To train; to prepare what the gate measures, beside what serves; from verdict to served."""


def main() -> None:
    """Train three times, serve four ways, and write the table."""
    if not SOURCE.exists():
        raise SystemExit(f"there is no {SOURCE}; set RETRAIL_SHARED_DATA to the data folder")
    shutil.rmtree(WORK / "swap", ignore_errors=True)
    shutil.copytree(built(), WORK / "swap", ignore=shutil.ignore_patterns("trajectories.db*"))
    with Workspace.open(WORK / "swap") as opened:
        import_files(opened.trajectories, [SOURCE / "runs.jsonl.gz"])
        examples, held = _divided(opened)
        base = opened.index.published.encoder
        served = [Served("as it was", _measure(opened, held))]
        for name, hyper in (("adapter", ADAPTER), ("query encoder", QUERY)):
            reference, seconds = _trained(opened, examples, hyper)
            served.append(_serve(opened, held, name, (base, reference), seconds))
        opened.index.serve(base)
        reference, seconds = _trained(opened, examples, HYPER)
        served.append(_serve(opened, held, "whole, drift (QDC)", (base, reference), seconds))
        served.append(_serve(opened, held, "whole, re-indexed", (reference, ""), seconds))
    write_table(
        "swap",
        f"Served at once or indexed again: {len(examples)} examples, {len(held.queries)} "
        f"sub-queries and {len(held.questions)} questions held out",
        HEADER,
        _rows(served),
        "Preparing exports a query encoder, or encodes every passage, while what was there before "
        "serves; the gate then measures what was prepared. Seconds to serve end when a search has "
        "its first vector of a query.",
    )


def built() -> Path:
    """Return a workspace over the corpus, made on the first run."""
    root = WORK / "wiki-agent"
    with Workspace.create(root) as opened:
        if opened.index.corpus.published() is None:
            opened.index.add(read_paths([SOURCE / "corpus.jsonl.gz"], ReadReport()))
    return root


def _divided(opened: Workspace) -> tuple[list[Example], Held]:
    """Hold a quarter of the questions out, and every query of theirs."""
    runs = mine_all(opened.trajectories.iterate()).runs
    is_held_out = split({normalise(question) for question, _ in runs}, 0.25, 0)
    kept = [run for run in runs if is_held_out(normalise(run[0]))]
    taught = [run for run in runs if not is_held_out(normalise(run[0]))]
    queries = held_out(kept)
    asked = {normalise(item.query) for item in queries} | {normalise(q) for q, _ in kept}
    examples = [e for e in build_examples(taught) if normalise(e.query) not in asked]
    qrels = read_qrels(SOURCE / "qrels.tsv")
    texts = {name: query.text for name, query in read_queries(SOURCE / "queries.jsonl").items()}
    questions = [
        HeldOut(texts[name], relevant)
        for name, relevant in qrels.items()
        if name in texts and is_held_out(normalise(texts[name]))
    ]
    return examples, Held(queries, questions)


def _trained(
    opened: Workspace, examples: Sequence[Example], hyper: Hyperparameters
) -> tuple[str, float]:
    """Train a version; returns its reference and the seconds."""
    index, began = opened.index, time.perf_counter()
    folder = index.root / "models" / "dense" / f"{1 + len(_versions(opened)):04d}"
    folder.mkdir(parents=True)
    base, corpus = index.encoder(), index.sample(2_000, hyper.seed)
    stored = None if hyper.mode == "full" else stored_vectors(index)
    train(base, examples, index.texts, corpus, folder, hyper, stored=stored)
    reference = folder.relative_to(index.root).as_posix()
    if hyper.mode == "full":
        save_drift(base, index.load(reference), (e.query for e in examples), folder)
    return reference, time.perf_counter() - began


def _versions(opened: Workspace) -> list[Path]:
    return sorted((opened.root / "models" / "dense").glob("*"))


def _serve(
    opened: Workspace, held: Held, name: str, pair: tuple[str, str], training: float
) -> Served:
    index, began = opened.index, time.perf_counter()
    encoder, query = pair
    queries_only = encoder == index.published.encoder
    prepared = (
        index.query_candidate(query) if queries_only else index.candidate(index.load(encoder))
    )
    with prepared as candidate:
        candidate.snapshot.encode("what the gate would ask")
        decided = time.perf_counter()
        candidate.publish()
    opened.search("the first query", by="dense", k=1)
    seconds = (training, decided - began, time.perf_counter() - decided)
    return Served(name, _measure(opened, held), seconds)


def _measure(opened: Workspace, held: Held) -> dict[By, tuple[float, ...]]:
    return {
        by: (
            *_means(opened, held.queries, by, ("RR@10", "nDCG@10")),
            *_means(opened, held.questions, by, ("R@5",)),
        )
        for by in TRAINED
    }


def _means(
    opened: Workspace, items: Sequence[HeldOut], by: By, names: Sequence[str]
) -> list[float]:
    qrels = {str(n): item.relevant for n, item in enumerate(items)}
    run = {
        str(n): {hit.doc_id: hit.score for hit in opened.search(item.query, by=by, k=10)}
        for n, item in enumerate(items)
    }
    found = per_query(qrels, run, list(names))
    return [sum(found[name].values()) / len(items) for name in names]


def _rows(served: Sequence[Served]) -> list[tuple[object, ...]]:
    first, last = served[0].figures, served[-1].figures
    rows: list[tuple[object, ...]] = []
    for each in served:
        for by in TRAINED:
            gain, whole = (f[by][1] - first[by][1] for f in (each.figures, last))
            share = f"{gain / whole:.0%}" if whole > 0 else "the whole gains nothing"
            seconds = [f"{value:.1f}" for value in each.seconds] or [""] * 3
            rows.append((each.name, by, *each.figures[by], share, *seconds))
    return rows


if __name__ == "__main__":
    main()
