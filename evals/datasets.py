"""Datasets in BEIR layout: a corpus, queries, and judgements, read as they lie on disk."""

import gzip
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
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
    return Dataset(folder, _queries(_existing(folder, "queries.jsonl")), _qrels(files[0]))


def _queries(path: Path) -> dict[str, Query]:
    queries: dict[str, Query] = {}
    for number, line in _lines(path):
        with _malformed(path, number, '{"_id": …, "text": …}'):
            row = json.loads(line)
            queries[row["_id"]] = Query(row["_id"], row["text"], row.get("metadata") or {})
    return queries


def _qrels(path: Path) -> dict[str, dict[str, int]]:
    """Read judgements below a heading line."""
    qrels: dict[str, dict[str, int]] = {}
    for number, line in list(_lines(path))[1:]:
        with _malformed(path, number, "query, document and gain between tabs"):
            query, document, gain = line.rstrip("\r\n").split("\t")
            if int(gain) > 0:
                qrels.setdefault(query, {})[document] = int(gain)
    return qrels


def _existing(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.exists():
            return path
    raise ConfigError(f"{str(folder / name)!r} is missing", fix="give a folder in BEIR layout")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    opener: Any = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            yield from ((n, line) for n, line in enumerate(file, 1) if line.strip())
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise ConfigError(
            f"{str(path)!r} cannot be read ({error})", fix="give a UTF-8 file, gzipped or not"
        ) from error


@contextmanager
def _malformed(path: Path, number: int, expected: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"line {number} of {str(path)!r} is malformed", fix=f"write {expected}"
        ) from error
