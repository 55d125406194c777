"""Learned fusion: the weights of hybrid search that a version brings along.

A version's folder may hold ``fusion.json``. While the version serves, it takes the place of the
settings' ``fusion`` and ``weights`` and of those ``boosts`` that it names: weights are learned for
standard scores. Versions trained later start with a copy, so that a new encoder is measured, and
serves, with the weights that served before it.
"""

import hashlib
import shutil
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..core.errors import CorruptStore
from ..core.settings import FusionWeights, Settings

FUSION = "fusion.json"


class LearnedFusion(BaseModel):
    """What ``fusion.json`` says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    weights: FusionWeights
    boosts: dict[str, float] = Field(default_factory=dict[str, float])

    def save(self, folder: Path) -> None:
        """Write it into a version's folder."""
        (folder / FUSION).write_text(self.model_dump_json(), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "LearnedFusion":
        """Read what a version's folder holds.

        Raises:
            CorruptStore: The file is missing or damaged.
        """
        path = folder / FUSION
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise CorruptStore(
                f"{str(path)!r} is missing or damaged",
                fix="retrail models promote 0 serves the weights of the settings again",
            ) from error


def fused(settings: Settings, folder: Path) -> Settings:
    """Return the settings to search by while what a folder holds serves.

    Args:
        settings: Of the workspace.
        folder: Of a version; any other has no learned fusion.

    Raises:
        CorruptStore: The learned fusion is damaged.
    """
    if not (folder / FUSION).exists():
        return settings
    learned = LearnedFusion.read(folder)
    boosts = settings.boosts | learned.boosts
    return settings.model_copy(
        update={"fusion": "zscore", "weights": learned.weights, "boosts": boosts}
    )


def inherit(serving: Path, folder: Path) -> None:
    """Give a new version's folder the learned fusion of what serves, if there is one."""
    if (serving / FUSION).exists():
        shutil.copyfile(serving / FUSION, folder / FUSION)


def fusion_identity(folder: Path) -> str:
    """Return a hash of a version's learned fusion."""
    return hashlib.blake2b((folder / FUSION).read_bytes(), digest_size=8).hexdigest()
