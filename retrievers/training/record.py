"""The record of a gate: ``gate.json`` in the version's folder, all that its report shows.

It is complete in itself, titles included, so that a report can be made again when the corpus or the
runs are gone. It holds queries and titles as they were asked and found: purge it with the runs.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...core.errors import ConfigError, CorruptStore
from ...core.settings import GateTest
from .curve import Point
from .diagnostics import Diagnostics
from .gate import Measured, Verdict
from .trial import Tried

RECORD = "gate.json"


class Gate(BaseModel):
    """What the gate saw and how it decided."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    verdict: Verdict
    reason: str
    trained: str
    """The retriever that must gain."""
    candidate: int
    test: GateTest
    margin: float
    measured: list[Measured]
    """On all held-out queries, at the corrected level; the parts and the guard at 95 %."""
    interpolation: list[Measured]
    extrapolation: list[Measured]
    bound: float = 0.0
    """Of nearness: the least cosine of interpolation."""
    guard: list[Measured]
    guard_source: str = ""
    guard_left_out: int = 0
    queries: list[Tried]
    """The held-out queries, then those of the guard."""
    titles: dict[str, str] = Field(default_factory=dict[str, str])


class GateRecord(BaseModel):
    """A gate with what led to it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = 1
    version: int
    gate: Gate
    dropped: dict[str, int] = Field(default_factory=dict[str, int])
    behaviour: Diagnostics | None = None
    """Of the agents whose runs were learned from."""
    curve: list[Point] = Field(default_factory=list[Point])

    def save(self, folder: Path) -> None:
        """Write the record into a version's folder, in one step."""
        temporary = (folder / RECORD).with_suffix(".tmp")
        temporary.write_text(self.model_dump_json(), encoding="utf-8")
        temporary.replace(folder / RECORD)


def read_record(folder: Path) -> GateRecord:
    """Read a version's record.

    Raises:
        ConfigError: There is none: the version was measured before records were kept.
        CorruptStore: It is damaged.
    """
    path = folder / RECORD
    if not path.exists():
        raise ConfigError(
            f"version {folder.name!r} has no record of its gate",
            fix="learn again; versions keep one since then",
        )
    try:
        return GateRecord.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise CorruptStore(f"{str(path)!r} is damaged", fix="delete it, or learn again") from error
