"""Progress: bars with rate and time left on a terminal, one line a stage elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

Report = Callable[[str, int, int | None], None]
"""Is told a stage's name, what is done of it, and the total if known."""


class RateColumn(ProgressColumn):
    """How much a second."""

    def render(self, task: Task) -> Text:
        """Render the rate, or nothing before there is one."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.1f}/s" if speed else "", style="progress.data.speed")


@contextmanager
def bars(console: Console) -> Iterator[Report]:
    """Show one bar a stage, which vanish in the end."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=console, transient=True) as progress:

        def report(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done, total=total)

        yield report


def lines(write: Callable[[str], None]) -> Report:
    """Write each stage's name once, when it begins.

    >>> seen = []
    >>> report = lines(seen.append)
    >>> report("encoding", 32, 96), report("encoding", 64, 96), report("dense index", 1, None)
    (None, None, None)
    >>> seen
    ['encoding 96 …', 'dense index …']
    """
    begun: set[str] = set()

    def report(stage: str, done: int, total: int | None) -> None:
        if stage not in begun:
            begun.add(stage)
            write(f"{stage} …" if total is None else f"{stage} {total} …")

    return report
