"""Progress: how long work tells what it has done, to whoever shows it."""

from collections.abc import Callable

Progress = Callable[[str, int, int | None], None]
"""Called with a stage's name, what is done of it, and the total if known."""


def quiet(stage: str, done: int, total: int | None) -> None:
    """Report nothing."""
