"""Files of questions and of their trajectories: BEIR queries in, one trajectory a line out.

A line that is no query is reported with its number and left out. The file of trajectories only
grows: what it holds is not asked again, and a last line that a killed process left torn is cut off.
"""

import json
from codecs import BOM_UTF8
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

from ..core.errors import ConfigError

_BEGINNING = b'{"schema_version":'
"""How every line begins that was written here."""


class Query(NamedTuple):
    """One question with its id."""

    id: str
    text: str


class Queries(NamedTuple):
    """What a file of queries holds."""

    queries: list[Query]
    problems: list[str]
    """Lines left out, each with its number and the reason."""


def read_queries(path: Path, *, longest: int) -> Queries:
    """Read ``{"_id": …, "text": …}`` lines; other fields are ignored.

    Args:
        path: The file.
        longest: Characters that a query may have.

    Raises:
        ConfigError: The file cannot be read.
    """
    found: dict[str, Query] = {}
    problems: list[str] = []
    with _opened(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                query = parse_query(line.removeprefix(BOM_UTF8), longest=longest)
                if query.id in found:
                    raise ValueError(f"duplicate _id {query.id!r}")
                found[query.id] = query
            except ValueError as error:
                problems.append(f"{path}, line {number}: {error}")
    return Queries(list(found.values()), problems)


def parse_query(line: bytes, *, longest: int) -> Query:
    """Read one line.

    Raises:
        ValueError: It is no query; the text says why.

    >>> parse_query(b'{"_id": 7, "text": "who?"}', longest=100)
    Query(id='7', text='who?')
    """
    try:
        record = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise ValueError("not UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"broken JSON: {error}") from error
    if not isinstance(record, dict):
        raise ValueError(f"expected an object, found {type(record).__name__}")
    query_id, text = record.get("_id"), record.get("text")
    if isinstance(query_id, bool) or not isinstance(query_id, str | int) or query_id == "":
        raise ValueError("there is no '_id'")
    if not isinstance(text, str) or not text.strip():
        raise ValueError("there is no 'text'")
    if len(text) > longest:
        raise ValueError(f"the text has {len(text)} characters, at most {longest} are read")
    try:
        f"{query_id}{text}".encode()
    except UnicodeEncodeError as error:
        raise ValueError("the text is not valid Unicode") from error
    return Query(str(query_id), text)


class RunFile:
    """A growing file of trajectories, one a line."""

    def __init__(self, path: Path) -> None:
        """Open a file, or begin one; a torn last line is cut off.

        Raises:
            ConfigError: The file holds something else, or cannot be written.
        """
        self.path = path
        self.done: set[str] = set()
        """Query ids that the file holds."""
        if not path.parent.is_dir():
            raise ConfigError(f"there is no folder {str(path.parent)!r}", fix="make it first")
        if path.exists():
            self._scan()

    def append(self, line: str) -> None:
        """Add a line, whole."""
        with self.path.open("ab") as file:
            file.write(line.encode() + b"\n")

    def _scan(self) -> None:
        end = 0
        with _opened(self.path, "r+b") as file:
            for number, line in enumerate(file, 1):
                if not self._take(line, number):
                    file.truncate(end)
                    return
                end += len(line)
            if end:
                file.seek(end - 1)
                if file.read() != b"\n":
                    file.write(b"\n")

    def _take(self, line: bytes, number: int) -> bool:
        """Note a line's query; says whether the line may stay."""
        if not line.strip():
            return True
        try:
            record: Any = json.loads(line)
            if isinstance(record, dict) and "question" in record and "agent" in record:
                if record.get("query_id") is not None:
                    self.done.add(str(record["query_id"]))
                return True
        except ValueError:
            if not line.endswith(b"\n") and _is_torn(line):
                return False
        raise ConfigError(
            f"line {number} of {str(self.path)!r} is not a trajectory",
            fix="name another file, or mend that line",
        )


def _is_torn(line: bytes) -> bool:
    """Recognise the beginning of a line of ours, so that nobody else's text is cut off.

    >>> _is_torn(b'{"schema_version":1,"id":"01'), _is_torn(b'{"sch'), _is_torn(b"hello")
    (True, True, False)
    """
    return line.startswith(_BEGINNING) or _BEGINNING.startswith(line)


def _opened(path: Path, mode: Literal["rb", "r+b"]) -> BinaryIO:
    try:
        return path.open(mode)
    except OSError as error:
        raise ConfigError(
            f"cannot open {str(path)!r}: {error.strerror}", fix="name a file of JSON lines"
        ) from error
