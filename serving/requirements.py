"""What this installation declares to need, and whether it is there in a fitting version.

Reads the metadata of the installed package; only the plain ``name>=1,<2; extra == "x"`` lines that
this project writes are understood.
"""

import re
from importlib.metadata import PackageNotFoundError, requires, version
from itertools import zip_longest
from typing import NamedTuple

_LINE = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*\(?([^;()]*)\)?(?:;\s*(.*))?")
_EXTRA = re.compile(r"extra == [\"']([^\"']+)[\"']")


class Requirement(NamedTuple):
    """One declared distribution."""

    name: str
    range: str
    extra: str | None = None
    """The optional feature that needs it, if it is not always needed."""

    def installed(self) -> str | None:
        """Return the version that is installed."""
        try:
            return version(self.name)
        except PackageNotFoundError:
            return None


def declared(distribution: str = "retrail") -> list[Requirement]:
    """List what a distribution declares; nothing if it is not installed itself."""
    try:
        return [parse_requirement(line) for line in requires(distribution) or []]
    except PackageNotFoundError:
        return []


def parse_requirement(line: str) -> Requirement:
    """Read one line of a distribution's metadata.

    >>> parse_requirement('psutil<8,>=5; extra == "fast"')
    Requirement(name='psutil', range='<8,>=5', extra='fast')
    """
    found = _LINE.fullmatch(line.strip())
    if found is None:
        return Requirement(line, "")
    extra = _EXTRA.search(found[3] or "")
    return Requirement(found[1], found[2].strip(), extra and extra[1])


def fits(found: str, wanted: str) -> bool:
    """Say whether a version lies in a range; what follows its numbers is not looked at.

    >>> fits("2.13.0+cpu", ">=2.5,<3"), fits("3.0", ">=2.5,<3"), fits("0.1", "==0.1.0")
    (True, False, True)
    """
    return all(_holds(found, clause.strip()) for clause in wanted.split(",") if clause.strip())


def _holds(found: str, clause: str) -> bool:
    match = re.fullmatch(r"(>=|<=|==|!=|~=|<|>)\s*([0-9][^,]*)", clause)
    if match is None:
        return True
    order = _compare(found, match[2])
    return {
        ">=": order >= 0,
        "~=": order >= 0,
        "<=": order <= 0,
        "<": order < 0,
        ">": order > 0,
        "==": order == 0,
        "!=": order != 0,
    }[match[1]]


def _compare(left: str, right: str) -> int:
    for a, b in zip_longest(_numbers(left), _numbers(right), fillvalue=0):
        if a != b:
            return 1 if a > b else -1
    return 0


def _numbers(text: str) -> list[int]:
    found = re.match(r"\d+(?:\.\d+)*", text)
    return [int(part) for part in found[0].split(".")] if found else []
