"""Documents from files and folders: BEIR corpora, Markdown, plain text, HTML and PDF.

Paths are checked before anything is read; after that no single file or line stops a run, it is
skipped and reported. A folder's documents come in sorted order under ids that start with the
folder's name, so the same folder gives the same ids on every machine.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from ...core.documents import Document
from ...core.errors import ConfigError
from .formats import TYPES, check_characters, read_content
from .jsonl import read_jsonl
from .report import ReadReport, Unreadable

MAX_BYTES = 100_000_000
_CORPUS_NAMES = ("corpus.jsonl", "corpus.jsonl.gz")
_CORPUS_SUFFIXES = (".jsonl", ".jsonl.gz")


class _Source(NamedTuple):
    """A file to read, and the id it has if it is one document."""

    path: Path
    doc_id: str

    @property
    def is_corpus(self) -> bool:
        return self.path.name.lower().endswith(_CORPUS_SUFFIXES)


def read_paths(
    paths: Sequence[Path], report: ReadReport, *, max_bytes: int = MAX_BYTES
) -> Iterator[Document]:
    """Read files and folders, one document at a time.

    Args:
        paths: Files or folders; folders are read recursively, without hidden entries and without
            links that lead out of them. A folder with a ``corpus.jsonl`` is that corpus alone.
        report: Receives the counts and problems while the documents are consumed.
        max_bytes: The largest single document, from the setting ``max_document_mb``.

    Raises:
        ConfigError: a path does not exist; nothing has been read then.
    """
    for path in paths:
        if not path.exists():
            raise ConfigError(f"there is no file or folder {str(path)!r}", fix="check the path")
    return _read_all(paths, report, max_bytes)


def _read_all(paths: Sequence[Path], report: ReadReport, max_bytes: int) -> Iterator[Document]:
    seen: dict[str, Path] = {}
    for path in dict.fromkeys(path.resolve() for path in paths):
        for source in _sources(path, report):
            for document in _read_source(source, report, max_bytes, seen):
                report.documents += 1
                yield document


def _sources(path: Path, report: ReadReport) -> Iterator[_Source]:
    if path.is_dir():
        yield from _walk(path, report)
    elif _has_known_type(path):
        yield _Source(path, path.name)
    else:
        known = ", ".join([*_CORPUS_SUFFIXES, *TYPES])
        report.skip(str(path), Unreadable("unsupported type", f"the types read are {known}"))


def _walk(root: Path, report: ReadReport) -> Iterator[_Source]:
    def failed(error: OSError) -> None:
        report.skip(str(error.filename), Unreadable("unreadable folder", str(error.strerror)))

    for folder, folders, names in os.walk(root, onerror=failed):
        corpus = next((name for name in _CORPUS_NAMES if name in names), None)
        folders[:] = [] if corpus else sorted(f for f in folders if not f.startswith("."))
        for name in [corpus] if corpus else sorted(names):
            path = Path(folder, name)
            if name.startswith("."):
                continue
            if not _has_known_type(path):
                report.count("unsupported type")
            elif not Path(os.path.realpath(path)).is_relative_to(root):
                report.skip(str(path), Unreadable("link out of the folder"))
            else:
                yield _Source(path, path.relative_to(root.parent).as_posix())


def _has_known_type(path: Path) -> bool:
    return path.name.lower().endswith((*_CORPUS_SUFFIXES, *TYPES))


def _read_source(
    source: _Source, report: ReadReport, max_bytes: int, seen: dict[str, Path]
) -> Iterator[Document]:
    try:
        status = source.path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise Unreadable("not a regular file")
        if source.is_corpus:
            yield from read_jsonl(source.path, report, max_bytes=max_bytes)
            return
        if (other := seen.setdefault(source.doc_id, source.path)) != source.path:
            same = f"{str(other)!r} has the same id: add a folder that holds both"
            raise Unreadable("duplicate id", same)
        check_characters(source.doc_id)
        yield _document(source, status, max_bytes)
    except OSError as error:
        report.skip(str(source.path), Unreadable("unreadable file", str(error)))
    except Unreadable as problem:
        report.skip(str(source.path), problem)


def _document(source: _Source, status: os.stat_result, max_bytes: int) -> Document:
    path, doc_id = source
    content = read_content(path, max_bytes)
    modified = datetime.fromtimestamp(status.st_mtime, UTC).isoformat(timespec="seconds")
    return Document(
        id=doc_id,
        title=content.title or path.stem,
        text=content.text,
        metadata={
            "path": path.as_posix(),
            "type": TYPES[path.suffix.lower()],
            "folder": doc_id.rpartition("/")[0],
            "size": status.st_size,
            "modified": modified.replace("+00:00", "Z"),
        },
    )
