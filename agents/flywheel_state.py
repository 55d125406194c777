"""What a flywheel remembers: its rounds, in ``flywheel.json`` and ``logs/flywheel.jsonl``.

The state is replaced whole, under a short lock, so that whoever pauses it and whoever turns it
never undo each other's change, and a kill at any moment leaves one state or the next. A round is in
the state before its line is in the log; a line that a kill left out is written at the next start.
"""

from pathlib import Path
from typing import Any, Literal

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..core.errors import CorruptStore

LOG = "logs/flywheel.jsonl"

Outcome = Literal["open", "promoted", "kept", "skipped", "failed"]


class Round(BaseModel):
    """One turn: mine, train, gate, swap."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    started_at: str
    """ISO 8601 in UTC."""
    through: int
    """The last finished run that it learns from, by the store's mark."""
    new: int
    """Runs that finished since the round before."""
    known: int
    """The newest version of a model when it began."""
    outcome: Outcome = "open"
    """``skipped``: there was nothing to train on, or nothing allowed; ``failed``: an error."""
    reason: str = ""
    version: int | None = None
    ended_at: str | None = None
    pruned: list[int] = Field(default_factory=list[int])
    """Versions whose weights were deleted after it."""


class State(BaseModel):
    """What outlives the process."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = 1
    every: int = 50
    """Finished runs that make a round due."""
    through: int = 0
    """The store's mark up to which rounds have learned."""
    rounds: int = 0
    open: Round | None = None
    """The round that is under way, or that a stop or a kill interrupted."""
    last: Round | None = None
    paused: bool = False
    stopping: bool = False
    """Whoever turns it is asked to end."""
    waiting: str = ""
    """Why a round that is due does not go on; empty if nothing hinders it."""
    pid: int | None = None
    """The process that turned it last."""


class StateFile:
    """The state of one workspace's flywheel, shared by processes."""

    def __init__(self, root: Path) -> None:
        """Take a workspace's directory."""
        self.path = root / "flywheel.json"
        self.log = root / LOG
        self._lock = FileLock(root / "flywheel.json.lock")

    def read(self) -> State:
        """Return the state; that of a flywheel that never turned if there is none.

        Raises:
            CorruptStore: The file is damaged or from a newer version.
        """
        try:
            return State.model_validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return State()
        except ValidationError as error:
            raise CorruptStore(
                f"{str(self.path)!r} is damaged", fix="delete it to count all runs as new"
            ) from error

    def change(self, **changes: Any) -> State:
        """Replace fields in one step and return the new state."""
        with self._lock:
            state = self.read().model_copy(update=changes)
            temporary = self.path.with_suffix(".tmp")
            temporary.write_text(state.model_dump_json(indent=1), encoding="utf-8")
            temporary.replace(self.path)
        return state

    def rounds(self) -> list[Round]:
        """Return the logged rounds, oldest first; a line that a kill cut off is left out."""
        if not self.log.exists():
            return []
        whole = self.log.read_bytes().rpartition(b"\n")[0]
        try:
            return [Round.model_validate_json(line) for line in whole.splitlines()]
        except ValidationError as error:
            raise CorruptStore(f"{str(self.log)!r} is damaged", fix="move it away") from error

    def write_log(self) -> None:
        """Log the last round, unless it is logged; only the flywheel's process may."""
        last, logged = self.read().last, self.rounds()
        if last is None or (logged and logged[-1].number >= last.number):
            return
        self.log.parent.mkdir(exist_ok=True)
        with self.log.open("ab+") as file:
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
            file.write(last.model_dump_json().encode() + b"\n")
