"""Runs as JSON lines, coming in and going out.

Lines that cannot be used are reported with their number and reason, never raised, so that one bad
line costs one run. A file that goes out appears whole or not at all.
"""

import gzip
import json
import os
import zlib
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, NoReturn, cast

from pydantic import BaseModel, ConfigDict
from ulid import ULID

from ..core.errors import ConfigError
from .records import MAX_DEPTH, StoredRun, reason, refuse_newer, sorted_json

MAX_PROBLEMS = 20
"""An import report keeps this many reasons; all problems are counted."""

Outcome = Literal["imported", "already_there", "conflicts"]


class ImportReport(BaseModel):
    """What became of the lines of an imported file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    read: int
    """Lines that were not blank: the sum of the four counts below."""
    imported: int
    """Runs that are new, or have replaced a stored one."""
    already_there: int
    conflicts: int
    """Runs whose id is stored with another content, and which were not to be replaced."""
    skipped: int
    """Lines that are not a run this version can read."""
    problems: list[str]
    """The first 20 conflicts and skipped lines, each with its line number and reason."""


@dataclass(slots=True)
class Tally:
    """Counts an import as it goes."""

    counts: Counter[str] = field(default_factory=Counter[str])
    problems: list[str] = field(default_factory=list[str])

    def add(self, outcome: Outcome | Literal["skipped"], problem: str | None = None) -> None:
        """Count one line, and keep the reason if it is among the first."""
        self.counts[outcome] += 1
        if problem is not None and len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)

    def report(self) -> ImportReport:
        """Sum up."""
        outcomes = ("imported", "already_there", "conflicts", "skipped")
        counts = {outcome: self.counts[outcome] for outcome in outcomes}
        return ImportReport(read=self.counts.total(), **counts, problems=self.problems)


class Line(NamedTuple):
    """One line of an imported file: a run, or the reason why it is none."""

    number: int
    content: StoredRun | str


def read_lines(source: Path) -> Iterator[Line]:
    """Read runs from JSON lines, plain or gzipped, one at a time; blank lines do not count.

    Raises:
        ConfigError: the file cannot be opened.
    """
    try:
        file = source.open("rb")
    except OSError as error:
        raise ConfigError(
            f"cannot read {str(source)!r}: {error.strerror}", fix="give a file of JSON lines"
        ) from error
    number = 0
    with file:
        try:
            zipped = file.peek(2)[:2] == b"\x1f\x8b"
            stream = cast(IO[bytes], gzip.GzipFile(fileobj=file)) if zipped else file
            for number, raw in enumerate(stream, 1):
                text = raw.removeprefix(BOM_UTF8) if number == 1 else raw
                if text.strip():
                    yield Line(number, _parse(text))
        except (OSError, EOFError, zlib.error) as error:
            yield Line(number + 1, f"the file cannot be read further ({error})")


def _parse(raw: bytes) -> StoredRun | str:
    try:
        value = json.loads(raw.decode(), parse_constant=_refuse_constant)
        if not isinstance(value, dict):
            return f"not a JSON object but a {type(value).__name__}"
        value = cast(dict[str, Any], value)
        refuse_newer(value.get("schema_version"))  # first: a newer run may well have a newer shape
        return StoredRun.from_object(_with_id(value) if value.get("id") in (None, "") else value)
    except RecursionError:
        return f"nested more than {MAX_DEPTH} levels deep"
    except ValueError as error:
        return reason(error)


def _with_id(value: dict[str, Any]) -> dict[str, Any]:
    rest = {name: item for name, item in value.items() if name != "id"}
    digest = blake2b(sorted_json(rest).encode(), digest_size=16).digest()
    return {**value, "id": str(ULID.from_bytes(digest))}


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"not JSON: {name} is not a number")


def write_lines(target: Path, lines: Iterable[str]) -> int:
    """Write lines to a file that appears whole or not at all; gzipped if its name ends in .gz.

    Raises:
        ConfigError: the file cannot be written.
    """
    draft = target.with_name(f".{ULID()}.tmp")
    try:
        with draft.open("xb") as file:
            written = _write_all(file, lines, zipped=target.name.endswith(".gz"))
            os.fsync(file.fileno())
        draft.replace(target)
    except OSError as error:
        raise ConfigError(
            f"cannot write {str(target)!r}: {error.strerror}",
            fix="give a file name in a folder that exists, may be written and has room",
        ) from error
    finally:
        with suppress(OSError):  # it is gone when all went well
            draft.unlink()
    return written


def _write_all(file: IO[bytes], lines: Iterable[str], *, zipped: bool) -> int:
    written = 0
    with ExitStack() as stack:
        out = file
        if zipped:  # neither name nor time inside: the same runs give the same bytes
            out = cast(IO[bytes], gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0))
            stack.enter_context(out)
        for line in lines:
            out.write(line.encode() + b"\n")
            written += 1
    file.flush()
    return written
