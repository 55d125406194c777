"""Console: what a command says, and where.

Results go to stdout, everything else to stderr; with ``--json`` stdout carries exactly one JSON
document. Text that comes from documents is data: control characters never reach a terminal and
markup is never interpreted. Colours and bars appear on terminals only.
"""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from .progress import Report

_PIPE_WIDTH = 10_000
"""Columns where nobody looks: lines are for programs there and are never folded."""

_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # escape sequences begin here; tabs and line ends stay
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # change the direction of what follows
    "\ud800-\udfff]"  # unpaired surrogates cannot be written
)


def clean(text: str) -> str:
    r"""Remove the characters by which a text could command a terminal.

    >>> clean("red \x1b[31malert\x1b[0m\r\n")
    'red [31malert[0m\n'
    """
    return _UNSAFE.sub("", text)


def one_line(text: str) -> str:
    r"""Clean a text and join its lines.

    >>> one_line("a\n\tb \x07")
    'a b'
    """
    return " ".join(clean(text).split())


def to_json(document: Any, *, ascii_only: bool = False) -> str:
    r"""Write JSON for people and programs; what is unsafe on a terminal is escaped.

    >>> to_json({"text": "é \x9b1m"})
    '{\n "text": "é \\u009b1m"\n}'
    """
    text = json.dumps(document, indent=1, ensure_ascii=ascii_only)
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class Output:
    """One command's two streams."""

    def __init__(self, *, as_json: bool = False) -> None:
        """Write results as text, or as one JSON document."""
        self.as_json = as_json
        self._notes: Console | None = None

    def result(self, document: Any, *shown: "RenderableType") -> None:
        """Print the outcome, once, last: the document with ``--json``, else what is to be shown.

        Strings are cleaned; other renderables must have been made of cleaned text.
        """
        if self.as_json:
            typer.echo(to_json(document, ascii_only=not _writes("é€𝄞")))
            return
        for item in shown:
            self.say(item)

    def say(self, item: "RenderableType") -> None:
        """Print a part of the outcome; to stderr with ``--json``."""
        if self.as_json:
            self.note(item)
        else:
            _print(_console(stderr=False), item)

    def note(self, item: "RenderableType") -> None:
        """Print to stderr."""
        if self._notes is None:
            self._notes = _console(stderr=True)
        _print(self._notes, item)

    def problems(self, messages: list[str], total: int) -> None:
        """Print what was left out, and how many more there were."""
        for message in messages:
            self.note(message)
        if total > len(messages) > 0:
            self.note(f"… and {total - len(messages)} more")

    @contextmanager
    def progress(self) -> "Iterator[Report]":
        """Show bars on a terminal; elsewhere one line a stage."""
        from .progress import bars, lines

        if self._notes is None:
            self._notes = _console(stderr=True)
        if not self._notes.is_terminal:
            yield lines(self.note)
            return
        with bars(self._notes) as report:
            yield report


def _console(*, stderr: bool) -> "Console":
    from rich.console import Console

    console = Console(stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=False)
    if not console.is_terminal:
        console = Console(
            stderr=stderr,
            markup=False,
            highlight=False,
            emoji=False,
            no_color=True,
            width=_PIPE_WIDTH,
        )
    return console


def _print(console: "Console", item: "RenderableType") -> None:
    console.print(clean(item) if isinstance(item, str) else item)


def _writes(text: str) -> bool:
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True
