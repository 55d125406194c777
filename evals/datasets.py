"""Datasets in BEIR layout: a corpus, queries, and judgements, read as they lie on disk."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..core.documents import Document
from ..core.errors import ConfigError
from ..retrievers.readers import ReadReport, read_paths


class Query(NamedTuple):
    """One question of a dataset."""

    id: str
    text: str
    metadata: dict[str, Any]


class Dataset(NamedTuple):
    """One folder in BEIR layout."""

    folder: Path
    queries: dict[str, Query]
    qrels: dict[str, dict[str, int]]
    """query id → document id → gain above zero."""

    def documents(self) -> Iterator[Document]:
        """Read the corpus."""
        return read_paths([self.folder], ReadReport())


def load_dataset(folder: Path, split: str | None = None) -> Dataset:
    """Read queries and judgements; the corpus is read when asked for.

    Args:
        folder: Holds ``queries.jsonl`` and ``qrels/*.tsv`` (or ``.gz``).
        split: Name of the judgements' file; the only one if not given.

    Raises:
        ConfigError: A file is missing or malformed.
    """
    files = sorted((folder / "qrels").glob(f"{split or '*'}.tsv*"))
    if len(files) != 1:
        names = ", ".join(path.name for path in files) or "none"
        raise ConfigError(f"judgements in {str(folder)!r}: {names}", fix="name one split")
    queries: dict[str, Query] = {}
    for line in _lines(_existing(folder, "queries.jsonl")):
        row = json.loads(line)
        queries[row["_id"]] = Query(row["_id"], row["text"], row.get("metadata") or {})
    qrels: dict[str, dict[str, int]] = {}
    for line in list(_lines(files[0]))[1:]:
        query, document, gain = line.rstrip("\n").split("\t")
        if int(gain) > 0:
            qrels.setdefault(query, {})[document] = int(gain)
    return Dataset(folder, queries, qrels)


def _existing(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.exists():
            return path
    raise ConfigError(f"{str(folder / name)!r} is missing", fix="give a folder in BEIR layout")


def _lines(path: Path) -> Iterator[str]:
    opener: Any = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        yield from (line for line in file if line.strip())
