"""Queries and judgements in BEIR layout, as they lie on disk.

What cannot be read is an error with its line. A guard of the gate and the datasets of an evaluation
are read by the same code, so they agree on what a line may look like.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from ..core.errors import ConfigError
from ..core.lines import numbered_lines, parsing
from .searcher import MAX_QUERY_CHARACTERS

TYPE_FIELDS = ("type", "question_type", "category_name", "category", "kind")
"""Metadata of a query that name its type, the first that is there."""

_FORMS = {(True, 3), (True, 4), (False, 4)}
"""What judgements look like: whether there are tabs, and the number of columns."""


class Query(NamedTuple):
    """One question of a dataset."""

    id: str
    text: str
    metadata: dict[str, Any]

    @property
    def type(self) -> str | None:
        """What kind of question it is, if its metadata say."""
        values = (self.metadata.get(field) for field in TYPE_FIELDS)
        return next((str(value) for value in values if isinstance(value, str | int)), None)


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Read judgements in BEIR's form (query, document, gain between tabs) or TREC's (four columns).

    A heading line is skipped.

    Raises:
        ConfigError: The file cannot be read, a line is malformed, or two lines contradict.
    """
    qrels: dict[str, dict[str, int]] = {}
    form: tuple[bool, int] | None = None
    for number, line in numbered_lines(path):
        with parsing(path, number, "query, document and gain between tabs"):
            tabs = "\t" in line
            columns = line.split("\t") if tabs else line.split()
            if number == 1 and not any(character.isdigit() for character in columns[-1]):
                continue
            form = form or (tabs, len(columns))
            if (tabs, len(columns)) != form or form not in _FORMS:
                raise ValueError(f"{len(columns)} columns between {'tabs' if tabs else 'spaces'}")
            query, document, gain = columns[0], columns[-2], int(columns[-1])
            if qrels.setdefault(query, {}).setdefault(document, gain) != gain:
                raise ValueError(f"{document!r} was judged otherwise for {query!r} before")
    return qrels


def read_queries(path: Path) -> dict[str, Query]:
    """Read queries by id.

    Raises:
        ConfigError: The file cannot be read, a line is malformed, or an id comes twice.
    """
    queries: dict[str, Query] = {}
    for number, line in numbered_lines(path):
        with parsing(path, number, '{"_id": …, "text": …}'):
            row = json.loads(line)
            name = identifier(row)
            if name in queries:
                raise ValueError(f"_id {name!r} was there before")
            metadata = dict(row.get("metadata") or {})
            metadata |= {field: row[field] for field in ("answer", "answers") if field in row}
            queries[name] = Query(name, query_text(row["text"]), metadata)
    return queries


def identifier(row: dict[str, Any]) -> str:
    """Return the ``_id`` of a line; ValueError if it is none."""
    value = row["_id"]
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise ValueError("_id is neither text nor number")
    if any(character.isspace() for character in str(value)):
        raise ValueError(f"_id {value!r} has white space, which TREC files cannot hold")
    return encodable(str(value))


def query_text(value: object) -> str:
    """Return the text of a query; ValueError if nothing can be searched by it."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("there is no text")
    if len(value) > MAX_QUERY_CHARACTERS:
        raise ValueError(f"the text has more than {MAX_QUERY_CHARACTERS} characters")
    return encodable(value)


def encodable(text: str) -> str:
    """Return a text that UTF-8 can hold; ValueError otherwise."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("it holds unpaired surrogates") from error
    return text


def judgements_file(folder: Path, split: str | None = None) -> Path:
    """Return the judgements of a split, the only ones if none is named.

    Raises:
        ConfigError: There is no such folder or file, or there are several.
    """
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {str(folder)!r}", fix="check the path")
    files = {path.name.partition(".tsv")[0]: path for path in (folder / "qrels").glob("*.tsv*")}
    names = ", ".join(sorted(files)) or "none"
    if split is None and len(files) == 1:
        return next(iter(files.values()))
    if split is None or split not in files:
        asked = "" if split is None else f", not {split!r}"
        raise ConfigError(
            f"judgements in {str(folder)!r}: {names}{asked}",
            fix="name one split" if files else "give a folder in BEIR layout, with qrels/*.tsv",
        )
    return files[split]


def find_file(folder: Path, name: str) -> Path | None:
    """Return a file of a dataset, plain or gzipped, if it is there."""
    return next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)


def existing_file(folder: Path, name: str) -> Path:
    """Return a file of a dataset; ConfigError if it is not there."""
    path = find_file(folder, name)
    if path is None:
        raise ConfigError(f"{str(folder / name)!r} is missing", fix="give a folder in BEIR layout")
    return path
