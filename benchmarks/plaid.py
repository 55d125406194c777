"""Late interaction with the same weights: ours in two stages against RAGatouille's PLAID index.

``python benchmarks/plaid.py [DOCUMENTS]``: SciFact, cut to so many documents if a number is
given (those judged for the queries among them). Both index from nothing and answer one at a time.
"""

import shutil
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from common import WORK, dataset, dev_half, write_table
from retrail.core.documents import Document
from retrail.core.metrics import mean, per_query
from retrail.evals import Dataset
from retrail.retrievers.colbert_export import export_colbert
from retrail.retrievers.ragatouille import Passage, RagatouilleEngine

from retrail import Workspace

DIM = 192
QUERIES = 100

Ranking = dict[str, float]
"""Documents' scores, of the best ten."""


def main() -> None:
    """Measure and write the table."""
    data = dataset("scifact")
    queries = {query: data.queries[query].text for query in dev_half(data)[:QUERIES]}
    documents = _documents(data, list(queries), int(sys.argv[1]) if sys.argv[1:] else None)
    WORK.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=WORK) as place:
        rows = _measure(Path(place), data, queries, documents)
    write_table(
        "plaid",
        f"SciFact, {len(documents):,} documents, {len(queries)} queries, {DIM} dimensions",
        ("engine", "build, s", "median, ms", "p95, ms", "recall@10 of exact MaxSim", "nDCG@10"),
        rows,
        "Weights of all-MiniLM-L6-v2 in both, exported as a ColBERT checkpoint for RAGatouille, "
        "whose exact MaxSim is another: it adds marker tokens and leaves out punctuation. Each "
        "recall is of the engine's own exact MaxSim (for PLAID: over its uncompressed vectors). "
        "Documents unchunked, 256 tokens. Building includes encoding; RAGatouille encodes twice.",
    )


def _documents(data: Dataset, queries: list[str], limit: int | None) -> list[Document]:
    judged = {document for query in queries for document in data.qrels[query]}
    order = sorted(data.documents(), key=lambda document: document.id not in judged)
    return order[:limit]


def _measure(
    place: Path, data: Dataset, queries: Mapping[str, str], documents: list[Document]
) -> list[tuple[object, ...]]:
    began = time.perf_counter()
    opened = Workspace.create(place / "ours", chunk_tokens=0, late_dim=DIM)
    opened.index.add(documents, source="benchmark")
    build = time.perf_counter() - began
    texts = opened.index.texts(f"{document.id}#0" for document in documents)
    exact = {q: _ours(opened, text, exact=True) for q, text in queries.items()}
    rows = [_row("ours, two stages", build, queries, data, exact, lambda q: _ours(opened, q))]
    encoder = opened.index.encoder()
    model = export_colbert(encoder, place / "model", dim=DIM, sample=list(texts.values())[:512])
    began = time.perf_counter()
    passages = [Passage(passage_id.removesuffix("#0"), text) for passage_id, text in texts.items()]
    engine = RagatouilleEngine.build(place / "plaid", model, passages)
    build = time.perf_counter() - began
    matrices = engine.encode([text for _, text in passages])
    theirs: dict[str, Ranking] = {}
    for query, text in queries.items():
        vectors = engine.encode_query(text).T
        scores = {
            p.id: float((m @ vectors).max(0).sum()) for p, m in zip(passages, matrices, strict=True)
        }
        theirs[query] = dict(sorted(scores.items(), key=lambda item: -item[1])[:10])
    rows.append(
        _row(
            "RAGatouille, PLAID", build, queries, data, theirs, lambda q: dict(engine.search(q, 10))
        )
    )
    opened.close()
    shutil.rmtree(place / "plaid")
    return rows


def _ours(opened: Workspace, query: str, *, exact: bool = False) -> Ranking:
    if not exact:
        return {hit.doc_id: hit.score for hit in opened.search(query, by="late", k=10)}
    snapshot = opened.index.snapshot()
    ids = snapshot.layout.ids
    ranked = snapshot.late(query, len(ids), ids).top(10)
    rows = opened.index.corpus.rows(
        "SELECT p.id, d.doc_id FROM passages p JOIN documents d ON d.id = p.document"
    )
    names = dict(rows)
    return {names[i]: float(s) for i, s in zip(ranked.ids.tolist(), ranked.scores, strict=True)}


def _row(
    name: str,
    build: float,
    queries: Mapping[str, str],
    data: Dataset,
    exact: Mapping[str, Ranking],
    search: Callable[[str], Ranking],
) -> tuple[object, ...]:
    for text in list(queries.values())[:10]:
        search(text)
    run, taken = {}, []
    for query, text in queries.items():
        began = time.perf_counter()
        run[query] = search(text)
        taken.append((time.perf_counter() - began) * 1000)
    recall = mean({q: len(run[q].keys() & exact[q].keys()) / len(exact[q]) for q in queries})
    gain = mean(per_query({q: data.qrels[q] for q in queries}, run, ["nDCG@10"])["nDCG@10"])
    p95 = statistics.quantiles(taken, n=20)[18]
    return name, f"{build:.0f}", f"{statistics.median(taken):.1f}", f"{p95:.1f}", recall, gain


if __name__ == "__main__":
    main()
