"""The flywheel: every N new runs it mines, trains, holds the gate and swaps, and remembers.

A round fixes the runs it learns from when it begins, so that one that was interrupted trains on the
same rows and goes on from its checkpoint. It ends by one write of the state, which moves the mark:
no run counts twice and none is lost. If a kill fell between a version's registration and that
write, the version is taken as the round's, and served if its gate had opened.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event
from time import monotonic
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..core.documents import utc_now
from ..core.errors import ConfigError, Interrupted, RetrailError, WorkspaceLocked
from ..core.locks import alone
from ..retrievers.progress import Progress, quiet
from .flywheel_state import Round, State, StateFile

if TYPE_CHECKING:
    from .workspace import Workspace

POLL_SECONDS = 2.0
LONGEST_WAIT = 300.0
"""Seconds between attempts at most, when something hinders a round that is due."""


class FlywheelOptions(BaseModel):
    """When a round is due, and what it may use."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    every: int = Field(default=50, ge=1)
    """Finished runs that make a round due."""
    max_minutes: float | None = Field(default=None, gt=0)
    """Of training at a stretch; the round then rests as long as it worked, and goes on."""
    min_free_gb: float = Field(default=2.0, ge=0)
    """Free space on the workspace's disk without which no round begins: a version's weights, its
    checkpoint and an index aside."""
    min_memory_gb: float = Field(default=2.0, ge=0)
    """Memory available without which no round begins."""
    keep: int | None = Field(default=5, ge=1)
    """Newest versions whose weights are kept after a round; None keeps all."""


class FlywheelStatus(BaseModel):
    """How a flywheel stands."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    running: bool
    state: State
    new: int
    """Runs that finished since the last round began."""
    due_in: int
    """Runs until the next round is due."""
    recent: list[Round]
    """The last rounds, oldest first."""


class Flywheel:
    """Learns in rounds from what a workspace records; one a workspace.

    ``step`` looks once, ``run`` turns until it is stopped. Both raise ``WorkspaceLocked`` where
    another process turns the same one.
    """

    def __init__(
        self,
        workspace: "Workspace",
        options: FlywheelOptions | None = None,
        *,
        learning: Mapping[str, Any] | None = None,
        progress: Progress = quiet,
    ) -> None:
        """Bind a workspace.

        Args:
            workspace: Open; it stays the caller's to close.
            options: When a round is due, and what it may use.
            learning: Arguments of :meth:`Workspace.learn` for every round.
            progress: Is told what a round is doing.
        """
        self.workspace = workspace
        self.options = options or FlywheelOptions()
        self.learning = dict(learning or {})
        self.state = StateFile(workspace.root)
        self._progress = progress
        self._lock = FileLock(workspace.root / "flywheel.lock")
        self._stop = Event()
        self._wait = POLL_SECONDS
        self._turning = False

    def step(self) -> Round | None:
        """Look once: take up an interrupted round or begin one that is due.

        Returns:
            The round, if one came to its end.
        """
        with self._held():
            if not self._turning:  # a stop was for whoever turned it then
                self.state.change(stopping=False)
            self.state.write_log()  # of a process killed before it could
            state = self.state.read()
            if state.every != self.options.every:
                state = self.state.change(every=self.options.every)
            if state.paused or self._stop.is_set():
                return None
            current = state.open or self._due(state)
            if current is None:
                return None
            if lacking := shortage(self.workspace.root, self.options):
                return self._hindered(lacking)
            self.state.change(open=current, waiting="")
            return self._turn(current)

    def run(
        self,
        *,
        once: bool = False,
        max_rounds: int | None = None,
        told: Callable[[Round], None] = lambda _: None,
    ) -> int:
        """Turn until it is stopped; returns the number of rounds that came to their end.

        Args:
            once: End when nothing is due.
            max_rounds: End after so many.
            told: Is given each round at its end.
        """
        done = 0
        with self._held():
            self.state.change(stopping=False, pid=os.getpid())
            self._turning = True
            try:
                while not self._asked_to_end() and done != max_rounds:
                    if (ended := self.step()) is not None:
                        done += 1
                        told(ended)
                    elif once:
                        break
                    else:
                        self._rest()
            finally:
                self._turning = False
        return done

    def stop(self) -> None:
        """Make ``run`` end soon, also from a signal handler; a round keeps its checkpoint."""
        self._stop.set()

    def status(self) -> FlywheelStatus:
        """Tell how it stands, whoever turns it."""
        state = self.state.read()
        begun = state.open.through if state.open else state.through
        new = self.workspace.trajectories.finished(begun)[1]
        due_in = 0 if state.open else max(0, state.every - new)
        recent = self.state.rounds()[-10:]
        return FlywheelStatus(
            running=self.is_running(), state=state, new=new, due_in=due_in, recent=recent
        )

    def is_running(self) -> bool:
        """Say whether any process turns it."""
        if self._lock.is_locked:
            return True
        try:
            with FileLock(self._lock.lock_file).acquire(timeout=0):
                return False
        except Timeout:
            return True

    def _due(self, state: State) -> Round | None:
        mark, new = self.workspace.trajectories.finished(state.through)
        if new < self.options.every:
            return None
        return Round(
            number=state.rounds + 1,
            started_at=utc_now(),
            through=mark,
            new=new,
            known=max((card.version for card in self.workspace.models()), default=0),
        )

    def _turn(self, current: Round) -> Round | None:
        began = monotonic()
        try:
            ended = self._finished_before(current) or self._learn(current)
        except Interrupted as interrupted:
            worked = 0.0 if self.state.read().paused else monotonic() - began
            self._wait = max(POLL_SECONDS, worked)  # a pause ends when it is said to
            self.state.change(waiting=str(interrupted))
            return None
        except WorkspaceLocked as locked:
            return self._hindered(str(locked))
        return self._close(ended)

    def _finished_before(self, current: Round) -> Round | None:
        """Find the version that a killed process had registered, and serve it if it was to."""
        cards = [card for card in self.workspace.models() if card.origin == origin_of(current)]
        if not cards:
            return None
        card, published = cards[-1], self.workspace.index.published
        serves = card.reference in (published.encoder, published.query)
        if card.verdict == "promoted" and not serves:
            swap = self.learning.get("swap", "reindex")
            try:
                self.workspace.promote(card.version, swap=swap, progress=self._watched())
            except (Interrupted, WorkspaceLocked):
                raise
            except RetrailError as error:
                return _ended(current, "failed", str(error), card.version)
        return _ended(current, card.verdict, card.reason, card.version)

    def _learn(self, current: Round) -> Round:
        runs = self.workspace.trajectories.iterate(through=current.through)
        try:
            report = self.workspace.learn(
                trajectories=runs,
                origin=origin_of(current),
                progress=self._watched(),
                **self.learning,
            )
        except (Interrupted, WorkspaceLocked):
            raise
        except ConfigError as error:
            return _ended(current, "skipped", str(error))
        except (RetrailError, OSError, RuntimeError, MemoryError) as error:
            return _ended(current, "failed", f"{type(error).__name__}: {error}")
        return _ended(current, report.verdict, report.reason, report.version)

    def _close(self, ended: Round) -> Round:
        if self.options.keep is not None:
            with suppress(WorkspaceLocked):  # the next round prunes too
                pruned = self.workspace.prune(self.options.keep)
                ended = ended.model_copy(update={"pruned": pruned})
        changes = {"through": ended.through, "rounds": ended.number, "last": ended}
        self.state.change(**changes, open=None, waiting="")
        self.state.write_log()
        self._wait = POLL_SECONDS
        return ended

    def _hindered(self, reason: str) -> None:
        """Try again later, after longer and longer."""
        self._wait = min(LONGEST_WAIT, 2 * self._wait)
        self.state.change(waiting=reason)

    def _watched(self) -> Progress:
        """Pass progress on, and interrupt the work when it is to end."""
        minutes = self.options.max_minutes
        training: list[float] = []

        def progress(stage: str, done: int, total: int | None) -> None:
            self._progress(stage, done, total)
            if self._asked_to_end() or self.state.read().paused:
                raise Interrupted("the round was interrupted", fix="it goes on when resumed")
            if stage == "training" and not training:
                training.append(monotonic())
            over = minutes is not None and training and monotonic() - training[0] > 60 * minutes
            if over and stage == "training" and done != total and self._has_checkpoints():
                raise Interrupted(f"{minutes:g} minutes are over", fix="the round goes on later")

        return progress

    def _has_checkpoints(self) -> bool:
        """Say whether an interrupted training goes on; one of seconds begins anew."""
        hyper = self.learning.get("hyper")
        return hyper is None or hyper.mode not in ("adapter", "fusion")

    def _asked_to_end(self) -> bool:
        return self._stop.is_set() or self.state.read().stopping

    def _rest(self) -> None:
        until = monotonic() + self._wait
        while (left := until - monotonic()) > 0 and not self._asked_to_end():
            self._stop.wait(min(left, POLL_SECONDS))

    @contextmanager
    def _held(self) -> Iterator[None]:
        with alone(
            self._lock,
            f"turns the flywheel of {str(self.workspace.root)!r}",
            fix="stop it first: retrail flywheel stop",
            seconds=1,  # whoever asks for the status holds it for a moment
        ):
            yield


def check_options(values: Mapping[str, Any]) -> FlywheelOptions:
    """Validate options.

    Raises:
        ConfigError: One is unknown or out of range.
    """
    try:
        return FlywheelOptions.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"flywheel option {name!r}: {first['msg']}", fix="mend it") from error


def shortage(root: Path, options: FlywheelOptions) -> str:
    """Say what a round lacks on this machine; empty if nothing.

    Args:
        root: On the disk that is written to.
        options: How much must be free.
    """
    import psutil

    free = shutil.disk_usage(root).free / 1e9
    memory = psutil.virtual_memory().available / 1e9
    if free < options.min_free_gb:
        return f"{free:.1f} GB of disk are free, a round wants {options.min_free_gb:g}"
    if memory < options.min_memory_gb:
        return f"{memory:.1f} GB of memory are available, a round wants {options.min_memory_gb:g}"
    return ""


def origin_of(current: Round) -> str:
    """Name a round in the card of the version it makes, by which a later process knows it."""
    return f"flywheel round {current.number} of {current.started_at}"


def _ended(current: Round, outcome: str, reason: str, version: int | None = None) -> Round:
    told = {"outcome": outcome, "reason": reason, "version": version, "ended_at": utc_now()}
    return Round.model_validate(current.model_dump() | told)
