"""Run the examples in docstrings, each module under the name it is installed with.

Modules are found by walking the folders: in an editable install the package's path lists nothing,
and imported by file path their relative imports would fail.
"""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("core", "retrievers", "memory", "tools", "agents", "evals", "serving")
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def installed_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("retrail", *(part for part in parts if part != "__init__")))


NAMES = [
    "retrail",
    *(installed_name(path) for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))),
]


def run_doctests(name: str) -> tuple[int, str]:
    """Return how many examples ran, and the report of those that failed."""
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    report: list[str] = []
    for test in doctest.DocTestFinder().find(importlib.import_module(name), name):
        runner.run(test, out=report.append)
    return runner.tries, "".join(report)


@pytest.mark.parametrize("name", NAMES)
def test_docstring_examples_hold(name: str):
    assert run_doctests(name)[1] == ""


def test_examples_are_found_and_run():
    assert run_doctests("retrail.core.documents")[0] >= 3
