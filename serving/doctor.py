"""The doctor command: what is installed, what is broken, how to mend it."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.errors import RetrailError, WorkspaceNotFound
from .console import Output, one_line
from .errors import FAILED
from .options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption

if TYPE_CHECKING:
    from rich.text import Text

    from .checks import Check

_COLOURS = {"ok": "green", "note": "yellow", "broken": "bold red"}


def doctor(
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="First cut, encode and index the whole corpus again.")
    ] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Find what is broken, and how to mend it."""
    out = Output(as_json=as_json)
    generation = _rebuild(out, workspace) if rebuild else None
    found: list[Check] = []
    for check in _checks(workspace):
        found.append(check)
        if not as_json:
            out.say(_shown(check))
    broken = sum(check.state == "broken" for check in found)
    checks = [
        check._asdict() | {"fix": None if check.state == "ok" else check.fix} for check in found
    ]
    out.result({"ok": not broken, "rebuilt": generation, "checks": checks})
    out.note(f"{broken} of {len(found)} checks found something broken" if broken else "all is well")
    if broken:
        raise typer.Exit(FAILED)


def _rebuild(out: Output, root: Path) -> int:
    from ..agents.workspace import Workspace

    with Workspace.open(root) as opened, out.progress() as progress:
        return opened.index.rebuild(progress=progress)


def _checks(root: Path) -> "Iterator[Check]":
    from . import checks

    yield from checks.installation()
    yield checks.disk(root)
    try:
        from ..agents.workspace import Workspace

        with Workspace.open(root) as opened:
            yield checks.Check("settings.toml", "ok", str(root))
            yield from checks.workspace(opened)
    except WorkspaceNotFound as error:
        # Nobody has to have a workspace in the current directory.
        state = "note" if root == DEFAULT_WORKSPACE else "broken"
        yield checks.Check("workspace", state, f"there is none at {str(root)!r}", error.fix)
    except (RetrailError, ImportError) as error:
        yield checks.finding("workspace", error)


def _shown(check: "Check") -> "Text":
    from rich.text import Text

    text = Text(f"{check.state:<7}", style=_COLOURS[check.state])
    text.append(f"{one_line(check.name)}: ", style="bold")
    text.append(one_line(check.detail), style="not bold")
    if check.fix and check.state != "ok":
        text.append(f"\n       {one_line(check.fix)}", style="dim")
    return text
