"""Documents with fields against title and body alone, and what weights of fields add.

CACM: authors and keywords, parsed from the records. MultiHop-RAG: source, author and category of
news, which many of its questions name. Weights are chosen on one half of the queries, from 0.5, 1
and 2 for each field but the body, for each retriever by itself; all figures are of the other half.

``python benchmarks/fields.py``
"""

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from statistics import fmean
from typing import Literal, NamedTuple

from common import WORK, dataset, dev_half, write_table
from retrail.core import Document
from retrail.core.metrics import per_query
from retrail.core.significance import paired_bootstrap
from retrail.evals import Dataset
from retrail.retrievers import Snapshot

from retrail import Workspace

GRID = (0.5, 1.0, 2.0)
METRIC = "nDCG@10"
RETRIEVERS: tuple[Literal["keyword", "late", "hybrid"], ...] = ("keyword", "late", "hybrid")
By = Literal["keyword", "dense", "late", "hybrid"]
Weights = Mapping[str, float]

_IMPRINT = re.compile(r"\s*CACM [A-Z][a-z]+,? \d{4}\s*")
_RECORD = re.compile(r"(\s*\d\.\d+)*\s*CA\d{6}.*", re.DOTALL)
_AUTHORS = re.compile(r"(?:[A-Z][\w'-]*(?: [A-Z][\w'-]+)?, ?(?:[A-Z]\. ?)+(?:Jr\. ?)?)+")


class Collection(NamedTuple):
    """Documents and how they get fields."""

    name: str
    fielded: Callable[[Document], Document]
    weighed: Sequence[str]


def cacm(document: Document) -> Document:
    """Part abstract, authors and keywords; the place and the record's stamp go."""
    body, _, rest = _IMPRINT.sub("\0", document.text, count=1).partition("\0")
    rest = _RECORD.sub("", rest)
    authors = found.group() if (found := _AUTHORS.match(rest)) else ""
    fields = {"authors": authors, "keywords": rest[len(authors) :]}
    return Document(id=document.id, title=document.title, text=body, fields=fields)


def news(document: Document) -> Document:
    """Turn the metadata that name the article's origin into fields."""
    fields = {
        name: str(document.metadata[name])
        for name in ("source", "author", "category")
        if name in document.metadata
    }
    return Document(id=document.id, title=document.title, text=document.text, fields=fields)


COLLECTIONS = (
    Collection("cacm", cacm, ("title", "authors", "keywords")),
    Collection("multihop_rag_facts", news, ("title", "source", "author")),
)


class Searches:
    """Searches of one workspace under any weights."""

    def __init__(self, opened: Workspace, data: Dataset) -> None:
        """Search what serves."""
        self.index, self.data = opened.index, data
        self.served = opened.index.snapshot()

    def __call__(
        self, by: By, queries: Sequence[str], weights: Weights | None = None
    ) -> list[float]:
        """Return each query's figure."""
        settings = self.index.settings.model_copy(update={"field_weights": dict(weights or {})})
        folder, vectors = self.served.folder, self.index.root / "vectors"
        snapshot = Snapshot(folder, vectors, settings, self.served.encode)
        run = {
            query: {
                hit.doc_id: -float(hit.rank)
                for hit in self.index.search_in(snapshot, self.data.queries[query].text, by, 10)
            }
            for query in queries
        }
        snapshot.close()
        qrels = {query: dict(self.data.qrels[query]) for query in queries}
        found = per_query(qrels, run, [METRIC])[METRIC]
        return [found[query] for query in queries]


def main() -> None:
    """Measure every collection and write the table."""
    rows = [row for collection in COLLECTIONS for row in _rows(collection)]
    against = "over title and body, 95 %"
    header = ("collection", "queries", "retriever", "title and body", "with fields", against)
    write_table(
        "fields",
        f"Documents with fields, and weights of fields: {METRIC}",
        (*header, "with weights", "weights", "over no weights, 95 %"),
        rows,
        NOTES,
    )


def _rows(collection: Collection) -> list[tuple[object, ...]]:
    data = dataset(collection.name)
    dev = set(dev_half(data))
    judged = sorted(query for query in data.qrels if query in data.queries)
    chosen_on = [query for query in judged if query in dev]
    held_out = [query for query in judged if query not in dev]
    documents = [collection.fielded(document) for document in data.documents()]
    bare = [document.model_copy(update={"fields": {}}) for document in documents]
    with (
        _opened(f"fields-{collection.name}", documents) as fielded,
        _opened(f"fields-{collection.name}-bare", bare) as plain,
    ):
        search, before = Searches(fielded, data), Searches(plain, data)
        rows: list[tuple[object, ...]] = []
        for by in ("dense", *RETRIEVERS):
            alone, unweighed = before(by, held_out), search(by, held_out)
            row = (collection.name, len(held_out), by, fmean(alone), fmean(unweighed))
            weighed: tuple[object, ...] = ("", "", "")
            if by != "dense":
                weights = _chosen(search, by, chosen_on, collection.weighed)
                scores = search(by, held_out, weights)
                said = ", ".join(f"{name} {weight:g}" for name, weight in weights.items())
                weighed = (fmean(scores), said or "all 1", _gain(unweighed, scores))
            rows.append((*row, _gain(alone, unweighed), *weighed))
    return rows


def _opened(name: str, documents: Sequence[Document]) -> Workspace:
    opened = Workspace.create(WORK / name, chunk_tokens=0)
    opened.index.add(documents, source="benchmark")
    return opened


def _chosen(search: Searches, by: By, queries: Sequence[str], names: Sequence[str]) -> Weights:
    """Return the best weights, of equals those nearest to none."""
    found: list[tuple[float, int, Weights]] = []
    for combination in product(GRID, repeat=len(names)):
        weights = {n: w for n, w in zip(names, combination, strict=True) if w != 1}
        found.append((fmean(search(by, queries, weights)), -len(weights), weights))
    return max(found, key=lambda item: item[:2])[2]


def _gain(before: Sequence[float], after: Sequence[float]) -> str:
    gain = paired_bootstrap(before, after)
    return f"{gain.difference:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"


NOTES = """\
Two halves of few queries: weights chosen on one do not carry over to the other, and on CACM late
search loses by them, as author names then outweigh what articles say. Source and author as fields
help keyword and late search of news, whose questions name them. For keyword
search, which counts words by their idf over all fields, no weight but 1 was chosen."""

if __name__ == "__main__":
    main()
