"""The training curve: loss and learning rate over the steps, kept beside the weights.

A training that is taken up again keeps the points of its first part, since the trainer stores its
history with its checkpoints.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from ...core.errors import CorruptStore

TRAINING = "training.json"

_POINTS = 50


class Point(BaseModel):
    """Where training stood after a step."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int
    loss: float
    """Mean since the point before."""
    learning_rate: float


def points_every(steps: int) -> int:
    """Return after how many steps each a point is kept, about 50 in all."""
    return max(1, steps // _POINTS)


def points_of(history: Iterable[Mapping[str, Any]]) -> list[Point]:
    """Return the points of a trainer's history, which holds other things besides."""
    return [
        Point(step=row["step"], loss=row["loss"], learning_rate=row["learning_rate"])
        for row in history
        if "loss" in row
    ]


def points(losses: Sequence[float], learning_rate: float) -> list[Point]:
    """Return the points of a training that knows the loss of every step, at one learning rate."""
    every = points_every(len(losses))
    parts = (losses[start : start + every] for start in range(0, len(losses), every))
    return [
        Point(step=min((n + 1) * every, len(losses)), loss=fmean(part), learning_rate=learning_rate)
        for n, part in enumerate(parts)
    ]


def save_curve(folder: Path, points: Iterable[Point]) -> None:
    """Write the curve into a version's folder."""
    rows = [point.model_dump() for point in points]
    (folder / TRAINING).write_text(json.dumps(rows), encoding="utf-8")


def read_curve(folder: Path) -> list[Point]:
    """Read the curve of a version; empty for one that was trained before curves were kept.

    Raises:
        CorruptStore: The file is damaged.
    """
    path = folder / TRAINING
    if not path.exists():
        return []
    try:
        return TypeAdapter(list[Point]).validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise CorruptStore(f"{str(path)!r} is damaged", fix="delete the file") from error
