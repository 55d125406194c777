"""Datasets in BEIR layout: a corpus, queries, judgements and gold answers, as they lie on disk.

Gold answers are read from ``answers`` (a list) or ``answer`` of a query or of its ``metadata``, or
from ``answers.jsonl`` with lines ``{"_id": …, "answers": […]}``, which wins. What cannot be read is
an error with its line; what is only odd, such as judgements of unknown queries, is a note.
"""

import json
import random
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from ..core.documents import Document
from ..core.errors import ConfigError
from ..core.lines import numbered_lines, parsing
from ..core.metrics import Qrels
from ..retrievers.beir import (
    Query,
    encodable,
    existing_file,
    find_file,
    identifier,
    judgements_file,
    read_qrels,
    read_queries,
)
from ..retrievers.readers import ReadReport, read_paths

__all__ = ["Dataset", "Query", "load_dataset", "read_qrels"]


class Dataset(NamedTuple):
    """One folder in BEIR layout."""

    folder: Path
    queries: dict[str, Query]
    qrels: dict[str, dict[str, int]]
    """query id → document id → gain above zero."""
    judgements: Qrels
    """The same with the documents judged not relevant, which some measures count."""
    answers: dict[str, tuple[str, ...]]
    """query id → gold answers, where there are any."""
    split: str
    """Name of the judgements' file."""
    notes: tuple[str, ...]
    """What is odd about it."""

    def documents(self) -> Iterator[Document]:
        """Read the corpus."""
        return read_paths([self.folder], ReadReport())

    def evaluated(self, limit: int | None = None, seed: int = 0) -> list[Query]:
        """Return the queries that have a relevant document, in the order of their file.

        Args:
            limit: Queries at most: the first of a seeded shuffle, so that a smaller limit draws a
                part of what a larger one draws.
            seed: Of the shuffle.
        """
        ids = sorted(self.qrels.keys() & self.queries.keys())
        random.Random(seed).shuffle(ids)
        chosen = set(ids[:limit])
        return [query for query in self.queries.values() if query.id in chosen]

    def fingerprint(self) -> dict[str, str]:
        """Return the SHA-256 of every file it was read from, by name without ``.gz``."""
        names = [f"qrels/{self.split}.tsv", "queries.jsonl", "corpus.jsonl", "answers.jsonl"]
        found = {name: find_file(self.folder, name) for name in names}
        return {name: _digest(path) for name, path in found.items() if path is not None}


def load_dataset(folder: str | Path, split: str | None = None) -> Dataset:
    """Read queries, judgements and answers; the corpus is read when asked for.

    Args:
        folder: Holds ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/*.tsv`` (or ``.gz``).
        split: Name of the judgements' file; the only one if not given.

    Raises:
        ConfigError: A file is missing or malformed, an id comes twice, or none of the judgements
            is about a query of the dataset.
    """
    folder = Path(folder)
    if folder.is_dir():
        existing_file(folder, "corpus.jsonl")
    path = judgements_file(folder, split)
    queries = read_queries(existing_file(folder, "queries.jsonl"))
    judgements = read_qrels(path)
    known = {query: gains for query, gains in judgements.items() if query in queries}
    if judgements and not known:
        raise ConfigError(
            f"none of the {len(judgements)} queries of {str(path)!r} is in 'queries.jsonl'",
            fix="give judgements and queries that belong together",
        )
    positive = {q: {d: gain for d, gain in found.items() if gain > 0} for q, found in known.items()}
    qrels = {query: gains for query, gains in positive.items() if gains}
    notes = [
        f"{count} {what}"
        for count, what in (
            (len(judgements) - len(known), "judged queries are not in queries.jsonl: left out"),
            (len(known) - len(qrels), "judged queries have no relevant document: left out"),
        )
        if count
    ]
    answers = _gold_answers(folder, queries)
    name = path.name.removesuffix(".gz").removesuffix(".tsv")
    return Dataset(folder, queries, qrels, known, answers, name, tuple(notes))


def _gold_answers(folder: Path, queries: dict[str, Query]) -> dict[str, tuple[str, ...]]:
    found = {query.id: _answers_of(query.metadata) for query in queries.values()}
    path = find_file(folder, "answers.jsonl")
    for number, line in numbered_lines(path) if path is not None else ():
        with parsing(path or folder, number, '{"_id": …, "answers": […]}'):
            row = json.loads(line)
            found[identifier(row)] = _answers_of(row)
    return {query: answers for query, answers in found.items() if answers and query in queries}


def _answers_of(row: dict[str, Any]) -> tuple[str, ...]:
    """Return the gold answers of a query; nothing, or nothing but nulls, is no answer."""
    given = row.get("answers") if row.get("answers") is not None else row.get("answer")
    values = given if isinstance(given, list) else [given]
    return tuple(encodable(str(value)) for value in values if isinstance(value, str | int | float))


def _digest(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
