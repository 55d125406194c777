"""BEIR corpus files: one JSON object a line with ``_id``, ``title``, ``text`` and ``metadata``.

A line may hold ``fields`` too. Files are read line by line, also inside gzip, so a corpus of any
size needs the memory of its longest line. A line that is no document is skipped and named by its
number.
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from pydantic import ValidationError

from ...core.documents import Document, MetadataValue
from .formats import check_characters, check_size
from .report import ReadReport, Unreadable

_KEYS = frozenset({"_id", "title", "text", "url", "metadata", "fields"})
_BOM = b"\xef\xbb\xbf"


def read_jsonl(path: Path, report: ReadReport, *, max_bytes: int) -> Iterator[Document]:
    """Yield the documents of one ``.jsonl`` or ``.jsonl.gz`` file."""
    try:
        with _open(path) as stream:
            for number, line in enumerate(_lines(stream, max_bytes), start=1):
                if not line.strip():
                    continue
                try:
                    yield parse_line(line, max_bytes=max_bytes)
                except Unreadable as problem:
                    report.skip(f"{path}, line {number}", problem)
    except (OSError, EOFError, zlib.error) as error:
        report.skip(str(path), Unreadable("unreadable file", str(error)))


def parse_line(line: bytes, *, max_bytes: int = 100_000_000) -> Document:
    r"""Turn one line into a document; scalar keys beside the known ones join the metadata.

    Raises:
        Unreadable: the line is no document.

    >>> parse_line(b'{"_id": "d1", "text": "body", "year": 2020}').metadata
    {'year': 2020}
    """
    check_size(len(line), max_bytes)
    record = _record(line)
    if _is_scalar(record.get("fields")):  # then it is metadata, as any other key
        record["metadata"] = {"fields": record.pop("fields")} | _object(record, "metadata")
    extra = {k: v for k, v in record.items() if k not in _KEYS and _is_scalar(v)}
    if not {"text", "title", "fields"} & record.keys():
        raise Unreadable("missing text", "there is neither 'text' nor 'title'")
    try:
        document = Document(
            id=_id(record),
            title=_text(record, "title") or "",
            text=_text(record, "text") or "",
            url=_text(record, "url"),
            metadata=extra | _object(record, "metadata"),
            fields=_object(record, "fields"),
        )
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"] if part != "[key]")
        raise Unreadable("invalid document", f"{name!r}: {first['msg']}") from error
    check_characters(document.id, document.title, document.text, document.url or "")
    check_characters(*_strings(document.metadata), *document.fields.values())
    return document


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if path.suffix.lower() == ".gz" else path.open("rb")


def _lines(stream: BinaryIO, max_bytes: int) -> Iterator[bytes]:
    """Yield lines; of one that is too long only as much as shows it."""
    line = stream.readline(max_bytes + 1).removeprefix(_BOM)
    while line:
        yield line
        while len(line) > max_bytes and not line.endswith(b"\n"):
            line = stream.readline(max_bytes + 1)
        line = stream.readline(max_bytes + 1)


def _record(line: bytes) -> dict[str, Any]:
    try:
        # Pandas and NumPy write NaN, which is not JSON and would break queries on the metadata.
        record = json.loads(line.decode(), parse_constant=lambda _: None)
    except UnicodeDecodeError as error:
        raise Unreadable("not UTF-8", f"byte {error.start} of the line") from error
    except (ValueError, RecursionError) as error:
        raise Unreadable("broken JSON", str(error)) from error
    if not isinstance(record, dict):
        raise Unreadable("wrong type", f"expected an object, found {type(record).__name__}")
    return record


def _id(record: dict[str, Any]) -> str:
    value = record.get("_id")
    if value is None or value == "":
        raise Unreadable("missing _id", "every line needs a non-empty '_id'")
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Unreadable("wrong type", f"'_id' is {type(value).__name__}, expected a string")
    return str(value)


def _text(record: dict[str, Any], key: str) -> str | None:
    value = record.get(key)
    if value is not None and not isinstance(value, str):
        raise Unreadable("wrong type", f"{key!r} is {type(value).__name__}, expected a string")
    return value


def _object(record: dict[str, Any], key: str) -> dict[str, Any]:
    value = record.get(key)
    if value is not None and not isinstance(value, dict):
        raise Unreadable("wrong type", f"{key!r} is {type(value).__name__}, expected an object")
    return value or {}


def _is_scalar(value: object) -> bool:
    return isinstance(value, str | int | float | bool)


def _strings(metadata: dict[str, MetadataValue]) -> Iterator[str]:
    for key, value in metadata.items():
        yield key
        yield from (v for v in (value if isinstance(value, list) else [value]) if type(v) is str)
