"""The model registry: every candidate ever trained, with where it came from and how it measured.

One folder a version, ``models/<name>/<version>/``, holding the weights and ``card.json``. A card is
written last, in one step: a folder without one is an unfinished training and is not listed.
"""

import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...core.documents import utc_now
from ...core.errors import ConfigError, CorruptStore
from ...core.locks import alone
from ..query_side import MANIFEST, QuerySide, encoding_version
from .gate import Measured, Verdict

CHECKPOINTS = "checkpoints"
"""Folder inside a version's, of a training that may have been killed."""


_STAYS = ("card.", "drift.", "gate.", "query_side.", "training.json", "report.")
"""How the names begin of what a version keeps without its weights; drifts, for those after it."""


class Card(BaseModel):
    """What a version is and where it came from."""

    model_config = ConfigDict(frozen=True, extra="allow")

    schema_version: int = 1
    name: str
    version: int
    created_at: str
    parent: str
    """Encoder id that training started from."""
    fingerprint: str
    code_version: str
    trajectories: list[str]
    """Ids of the runs it learned from."""
    data_hash: str
    """Hash of the training examples."""
    hyperparameters: dict[str, Any]
    mining: dict[str, Any] = Field(default_factory=dict[str, Any])
    """How signals were mined, and by which judge."""
    signals: dict[str, int]
    examples: int
    measured: list[Measured] = Field(default_factory=list[Measured])
    """On all held-out queries; what else the gate saw is in ``gate.json``."""
    candidate: int = 1
    """Its number among those measured since what served was promoted."""
    confidence: float = 0.95
    """Of the test of its gain, corrected for that number."""
    verdict: Verdict
    reason: str
    origin: str = ""
    """Of what round of a flywheel it is; empty for one that was asked for."""
    pruned_at: str | None = None
    """When its weights were deleted; the card and its reports stay."""

    @property
    def reference(self) -> str:
        """How the workspace names the model: a path relative to it."""
        return f"models/{self.name}/{self.version:04d}"


class Registry:
    """The versions of a workspace's models."""

    def __init__(self, root: Path) -> None:
        """Open the registry of a workspace directory."""
        self.root = root

    def cards(self, name: str = "dense") -> list[Card]:
        """Return all versions, oldest first."""
        return [
            self._read(path) for path in sorted((self.root / "models" / name).glob("*/card.json"))
        ]

    def card(self, version: int, name: str = "dense") -> Card:
        """Return one version.

        Raises:
            ConfigError: There is none of that number.
        """
        for card in self.cards(name):
            if card.version == version:
                return card
        known = ", ".join(str(card.version) for card in self.cards(name)) or "none"
        raise ConfigError(f"there is no version {version} of {name!r}", fix=f"known: {known}")

    @contextmanager
    def training(self) -> Iterator[None]:
        """Train alone, from the reservation of a version to its card: the folder is one's own.

        Raises:
            WorkspaceLocked: Another process is learning here.
        """
        with alone(self.root / "learn.lock", f"is learning in {str(self.root)!r}"):
            yield

    def reserve(self, name: str = "dense") -> tuple[int, Path]:
        """Return the next version number and a folder that is empty but for checkpoints."""
        folder = self.root / "models" / name
        taken = [card.version for card in self.cards(name)]
        version = max(taken, default=0) + 1
        target = folder / f"{version:04d}"
        target.mkdir(parents=True, exist_ok=True)
        for left in target.iterdir():  # of an unfinished training, which can go on
            if left.is_dir() and left.name != CHECKPOINTS:
                shutil.rmtree(left, ignore_errors=True)
            elif left.name != CHECKPOINTS:
                left.unlink()
        return version, target

    def candidate(self, serving: str, name: str = "dense") -> int:
        """Return which candidate the next one is since what serves was promoted.

        All since have looked at held-out queries; one that is the best of several by chance is to
        be told from one that is better.

        Args:
            serving: Reference of the version that serves, or another encoder's name.
            name: Of the model.
        """
        cards = self.cards(name)
        served = max((card.version for card in cards if card.reference == serving), default=0)
        return 1 + sum(card.version > served for card in cards if card.measured)

    def register(self, card: Card) -> None:
        """Write a version's card, which makes it listed; its training is over."""
        path = self.root / card.reference / "card.json"
        temporary = path.with_suffix(".tmp")
        temporary.write_text(card.model_dump_json(indent=1), encoding="utf-8")
        temporary.replace(path)
        shutil.rmtree(path.parent / CHECKPOINTS, ignore_errors=True)

    def servable(self, version: int, name: str = "dense") -> Card:
        """Return a version that has its weights.

        Raises:
            ConfigError: There is none of that number, or its weights were pruned.
        """
        card = self.card(version, name)
        if card.pruned_at is not None:
            left = [str(c.version) for c in self.cards(name) if c.pruned_at is None]
            raise ConfigError(
                f"the weights of version {version} were deleted at {card.pruned_at}",
                fix=f"choose one that has them: {', '.join(left) or 'none'}",
            )
        return card

    def prune(self, keep: int, used: Collection[str], name: str = "dense") -> list[int]:
        """Delete the weights of old versions; cards, reports and curves stay.

        Args:
            keep: Newest versions that stay whole.
            used: References that stay whole whatever their age: what serves or may serve again.
            name: Of the model.

        Returns:
            The versions that lost their weights.
        """
        cards = self.cards(name)
        newest = {card.reference for card in cards[-keep:]}
        whole = newest | {*used}
        whole |= self._passages_of(cards, whole)
        pruned: list[int] = []
        for card in cards:
            if card.reference not in whole:
                if card.pruned_at is None:
                    self.register(card.model_copy(update={"pruned_at": utc_now()}))
                    pruned.append(card.version)
                _delete_weights(self.root / card.reference)  # again, if a kill left some
        return pruned

    def _passages_of(self, cards: Sequence[Card], whole: Collection[str]) -> set[str]:
        """Return the versions whose passages or vectors the query sides among those kept use."""
        wanted: set[str] = set()
        kept: set[str] = set()
        for card in cards:
            folder = self.root / card.reference
            if card.reference in whole and (folder / MANIFEST).exists():
                wanted.add(QuerySide.read(folder).passages)
                kept.add(encoding_version(self.root, card.reference))
        return {c.reference for c in cards if c.fingerprint in wanted or c.reference in kept}

    def _read(self, path: Path) -> Card:
        try:
            return Card.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValidationError) as error:
            raise CorruptStore(f"{str(path)!r} is damaged", fix="delete its folder") from error


def _stays(name: str) -> bool:
    return name.startswith(_STAYS) or name.endswith(".png")


def _delete_weights(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir() and not _stays(entry.name):
            shutil.rmtree(entry)
        elif not _stays(entry.name):
            entry.unlink()
