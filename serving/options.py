"""Options that several commands share, and their closed sets of values.

Nothing heavy is imported here, so that ``--help`` is quick; the tests hold the sets to those of
the rooms that define them.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

DEFAULT_WORKSPACE = Path(".retrail")

WorkspaceOption = Annotated[
    Path,
    typer.Option(
        "--workspace", "-w", metavar="DIR", envvar="RETRAIL_WORKSPACE", help="Workspace directory."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


class By(StrEnum):
    """Retrievers."""

    KEYWORD = "keyword"
    DENSE = "dense"
    LATE = "late"
    FILTERED = "filtered"
    HYBRID = "hybrid"


class RankBy(StrEnum):
    """Retrievers that can rank what a filter admits."""

    KEYWORD = "keyword"
    DENSE = "dense"
    LATE = "late"
    HYBRID = "hybrid"


class RunStatus(StrEnum):
    """How a run stands."""

    RUNNING = "running"
    COMPLETED = "completed"
    PARTIAL = "partial"
    NOT_FOUND = "not_found"
    FAILED = "failed"


class Format(StrEnum):
    """Formats of exported trajectories."""

    RETRAIL = "retrail"
