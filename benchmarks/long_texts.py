"""Documents longer than the encoder's window: cut, read in windows, or cut into passages.

SciFact's abstracts before an artificial window of 64 tokens, so that reading them whole, with 256,
can be measured as well. All judged documents are among those that are searched, all of which are
ranked, by their best passage. Differences are to cutting, over the same queries.
"""

import random
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

from common import dataset, write_table
from retrail.core.documents import Document
from retrail.core.metrics import per_query
from retrail.core.settings import Settings
from retrail.core.significance import paired_bootstrap
from retrail.evals import Dataset
from retrail.retrievers import Index
from retrail.retrievers.vectors import stored_files

DOCUMENTS = 1_000
WINDOW = 64
FORMS: dict[str, dict[str, Any]] = {
    f"cut at {WINDOW}": {"max_tokens": WINDOW, "chunk_tokens": 0},
    f"windows of {WINDOW}": {"max_tokens": WINDOW, "chunk_tokens": 0, "long_texts": "windows"},
    "passages of 40 words": {"max_tokens": WINDOW, "chunk_tokens": 40},
    "cut at 256": {"max_tokens": 256, "chunk_tokens": 0},
}
RETRIEVERS: tuple[Literal["dense", "late"], ...] = ("dense", "late")


class Measured(NamedTuple):
    """One form of the index."""

    cut: int | None
    """Passages that are longer than what was read."""
    passages: int
    bytes_per_document: float
    scores: dict[str, list[float]]
    """nDCG@10 of each query by retriever."""


def main() -> None:
    """Build every form and write the table."""
    data = dataset("scifact")
    documents = sampled(data)
    found = {name: measured(data, documents, settings) for name, settings in FORMS.items()}
    first = next(iter(found.values()))
    rows = [
        (
            name,
            f"{form.cut} of {form.passages}",
            f"{form.bytes_per_document:,.0f}",
            *(cell for by in RETRIEVERS for cell in compared(first.scores[by], form.scores[by])),
        )
        for name, form in found.items()
    ]
    queries = len(first.scores["dense"])
    header = ["", "passages cut", "bytes a document"]
    header += [name for by in RETRIEVERS for name in (f"{by} nDCG@10", "to cut (95 %)")]
    title = f"Long texts: SciFact, {len(documents):,} documents, {queries} queries"
    write_table("long_texts", title, header, rows, NOTES)


NOTES = (
    "Bytes of dense vectors and token vectors (fp16, 192 dimensions). Late search ranks the 100 "
    "best of dense and of keyword search. A document counts by its best passage. The encoder is "
    "all-MiniLM-L6-v2, which reads 256 tokens and was trained with 128."
)


def sampled(data: Dataset) -> list[Document]:
    """Take all judged documents and others by a seeded shuffle, in the order of the corpus."""
    judged = {doc_id for gains in data.qrels.values() for doc_id in gains}
    documents = list(data.documents())
    others = [document.id for document in documents if document.id not in judged]
    random.Random(0).shuffle(others)
    chosen = {*judged, *islice(others, DOCUMENTS - len(judged))}
    return [document for document in documents if document.id in chosen]


def measured(data: Dataset, documents: list[Document], settings: dict[str, Any]) -> Measured:
    """Index the documents and ask all judged queries."""
    with TemporaryDirectory() as folder:
        index = Index(Path(folder), Settings(**settings))
        index.add(documents)
        files = stored_files(index.root / "vectors", index.snapshot().manifest)
        size = sum(path.stat().st_size for path in files.folder.iterdir() if path.suffix != ".npz")
        scores = {by: scored(data, searching(index, by)) for by in RETRIEVERS}
        cut, passages = index.cut_passages(), len(index.snapshot().layout.ids)
        index.close()
    return Measured(cut, passages, size / len(documents), scores)


def searching(index: Index, by: Literal["dense", "late"]) -> Callable[[str], dict[str, float]]:
    """Return what gives the scores of a query's ten best documents."""
    return lambda query: {hit.doc_id: hit.score for hit in index.search(query, by=by, k=10)}


def scored(data: Dataset, search: Callable[[str], dict[str, float]]) -> list[float]:
    """Return nDCG@10 of each judged query."""
    run = {query.id: search(query.text) for query in data.evaluated()}
    judged = {query: data.qrels[query] for query in run}
    found = per_query(judged, run, ["nDCG@10"])["nDCG@10"]
    return [found[query] for query in sorted(found)]


def compared(before: list[float], after: list[float]) -> tuple[float, str]:
    """Return a mean and its difference to another with the interval."""
    found = paired_bootstrap(before, after)
    if before is after:
        return found.after, ""
    return found.after, f"{found.difference:+.3f} ({found.low:+.3f} to {found.high:+.3f})"


if __name__ == "__main__":
    main()
