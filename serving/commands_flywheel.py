"""Continuous learning: what ``learn --continuous`` does, and the commands that control it.

The flywheel's state is in the workspace, so it is controlled from any process: what turns it looks
at the state between steps and ends, or rests, by itself. SIGTERM and SIGINT are such a request too,
the second time they end the process as usual.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from ..core.errors import ConfigError
from .console import Output, one_line
from .options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption

if TYPE_CHECKING:
    from rich.table import Table

    from ..agents.flywheel import Flywheel, FlywheelStatus
    from ..agents.flywheel_state import Round
    from ..agents.workspace import Workspace

flywheel = typer.Typer(no_args_is_help=True, help="Continuous learning: state and control.")

PANEL = "Continuous learning"
EVERY, NICE = 50, 10
_STOP_SECONDS = 30.0

ContinuousOption = Annotated[
    bool,
    typer.Option("--continuous", help="Learn in rounds until stopped.", rich_help_panel=PANEL),
]
EveryOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Finished runs that make a round due.",
        show_default=str(EVERY),
        rich_help_panel=PANEL,
    ),
]
OnceOption = Annotated[
    bool,
    typer.Option("--once", help="End when no round is due, for timers.", rich_help_panel=PANEL),
]
MaxRoundsOption = Annotated[
    int | None, typer.Option(min=1, help="End after so many rounds.", rich_help_panel=PANEL)
]
MaxMinutesOption = Annotated[
    float | None,
    typer.Option(help="Of training at a stretch; it goes on later.", rich_help_panel=PANEL),
]
ThreadsOption = Annotated[
    int | None, typer.Option(min=1, help="Processor threads of a round.", rich_help_panel=PANEL)
]
NiceOption = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=19,
        help="How far others go first.",
        show_default=str(NICE),
        rich_help_panel=PANEL,
    ),
]


class Turning(NamedTuple):
    """What the options of ``learn --continuous`` say; None is what was not given."""

    every: int | None = None
    once: bool = False
    max_rounds: int | None = None
    max_minutes: float | None = None
    threads: int | None = None
    nice: int | None = None

    def check(self, *, continuous: bool) -> None:
        """Refuse options that say nothing.

        Raises:
            ConfigError: There are some without ``--continuous``.
        """
        given = [name for name, value in self._asdict().items() if value not in (None, False)]
        if given and not continuous:
            option = f"--{given[0].replace('_', '-')}"
            raise ConfigError(f"{option} is for continuous learning", fix="add --continuous")


def turn(out: Output, opened: "Workspace", turning: Turning, learning: dict[str, Any]) -> None:
    """Turn a workspace's flywheel until it is stopped, showing each round at its end.

    Args:
        out: Is told.
        opened: The workspace.
        turning: How.
        learning: Arguments of ``Workspace.learn``.
    """
    limits = {"every": turning.every or EVERY, "max_minutes": turning.max_minutes}
    with out.progress() as progress:
        wheel = opened.flywheel(learning=learning, progress=progress, **limits)
        _be_modest(turning)
        ended: list[Round] = []

        def told(one: "Round") -> None:
            ended.append(one)
            out.note(_line(one))

        with _heeding_signals(wheel):
            wheel.run(once=turning.once, max_rounds=turning.max_rounds, told=told)
    status = wheel.status()
    out.result(
        {"rounds": [one.model_dump(mode="json") for one in ended]} | _document(status),
        f"{len(ended)} rounds ended; {_sentence(status)}",
    )


@flywheel.command()
def status(workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """Show whether it runs, when the next round is due, and the last rounds."""
    from ..agents.workspace import Workspace

    out = Output(as_json=as_json)
    with Workspace.open(workspace) as opened:
        found = opened.flywheel().status()
    table = [_table(found.recent)] if found.recent else []
    out.result(_document(found), *table, _sentence(found))


@flywheel.command()
def pause(workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """Rest until resumed; a round under way keeps its checkpoint."""
    _change(workspace, as_json, paused=True)


@flywheel.command()
def resume(workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """Go on after a pause."""
    _change(workspace, as_json, paused=False)


@flywheel.command()
def stop(workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """End the process that turns it, if there is one; what it has done is kept."""
    from ..agents.workspace import Workspace

    out = Output(as_json=as_json)
    with Workspace.open(workspace) as opened:
        wheel = opened.flywheel()
        if wheel.is_running():
            wheel.state.change(stopping=True)
        until = time.monotonic() + _STOP_SECONDS
        while wheel.is_running() and time.monotonic() < until:
            time.sleep(0.1)
        found = wheel.status()
    out.result(_document(found), _sentence(found))


def _change(workspace: Any, as_json: bool, **changes: Any) -> None:
    from ..agents.workspace import Workspace

    out = Output(as_json=as_json)
    with Workspace.open(workspace) as opened:
        wheel = opened.flywheel()
        wheel.state.change(**changes)
        found = wheel.status()
    out.result(_document(found), _sentence(found))


def _be_modest(turning: Turning) -> None:
    if hasattr(os, "nice"):
        os.nice(NICE if turning.nice is None else turning.nice)
    if turning.threads is not None:
        import torch

        torch.set_num_threads(turning.threads)


@contextmanager
def _heeding_signals(wheel: "Flywheel") -> Iterator[None]:
    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def heed(number: int, frame: FrameType | None) -> None:
        wheel.stop()
        restore()

    before = {n: signal.signal(n, heed) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        restore()


def _document(found: "FlywheelStatus") -> dict[str, Any]:
    return found.model_dump(mode="json")


def _sentence(found: "FlywheelStatus") -> str:
    state = found.state
    if found.running:
        how = "asked to stop" if state.stopping else f"runs in process {state.pid}"
    else:
        how = "does not run"
    due = f"{found.new} new runs, a round every {state.every}, due in {found.due_in}"
    if state.open is not None:
        due = f"round {state.open.number} is under way; {due}"
    parts = [f"the flywheel {how}", *["it is paused"] * state.paused, due]
    return "; ".join(parts) + (f"\nwaiting: {one_line(state.waiting)}" if state.waiting else "")


def _line(one: "Round") -> str:
    version = f", version {one.version}" if one.version is not None else ""
    return f"round {one.number}: {one.new} new runs{version}, {one.outcome}: {one_line(one.reason)}"


def _table(rounds: "list[Round]") -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table("round", "ended", "new runs", "version", "outcome", "why")
    for one in rounds:
        table.add_row(
            str(one.number),
            (one.ended_at or "")[:16].replace("T", " "),
            str(one.new),
            str(one.version or ""),
            one.outcome,
            Text(one_line(one.reason)),
        )
    return table
