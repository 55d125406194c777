"""The command that writes the report of a trained version, and what ``learn`` calls for it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import Output
from .options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption

if TYPE_CHECKING:
    from ..retrievers.training.learn import LearnReport


def report(
    version: Annotated[
        int | None,
        typer.Argument(
            min=1, metavar="[VERSION]", help="Its number.", show_default="the newest one"
        ),
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Write the report of a version: before and after, what was won and lost, and why."""
    from ..agents.workspace import Workspace
    from ..core.errors import ConfigError
    from ..evals.learning_report import write_learning_report

    out = Output(as_json=as_json)
    with Workspace.open(workspace) as opened:
        cards, root = opened.models(), opened.root
    if not cards:
        raise ConfigError("nothing has been trained yet", fix="retrail learn trains a version")
    number = cards[-1].version if version is None else version
    path = write_learning_report(root, number)
    card = next(each for each in cards if each.version == number)
    verdict = f"version {number} {card.verdict}: {card.reason}"
    document = {"version": number, "verdict": card.verdict, "reason": card.reason}
    files = {"report": str(path), "markdown": str(path.with_suffix(".md"))}
    out.result(document | files, verdict, f"report: {path}")


def with_report(learned: "LearnReport", root: Path) -> "LearnReport":
    """Write the report of what was just learned and name it, relative to the workspace."""
    from ..evals.learning_report import write_learning_report

    path = write_learning_report(root, learned.version)
    return learned.model_copy(update={"report": path.relative_to(root).as_posix()})
