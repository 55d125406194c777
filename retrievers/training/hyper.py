"""How to train: one frozen model, kept in the card of every version.

The names of losses, targets and modes are switches that ``loss_functions``, ``scoring`` and
``trainer`` read; every value of a switch has one place that carries it out.
"""

from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from ...core.errors import ConfigError
from ..similarity_pooling import Pooling

Loss = Literal["infonce", "disj", "listwise", "mw", "wasserstein", "margin_mse"]
Target = Literal["dense", "late", "both"]
Mode = Literal["full", "query", "adapter", "fusion"]

LISTS: frozenset[Loss] = frozenset({"disj", "listwise", "mw", "wasserstein"})
"""Losses that read all of a query's positives as one row; the others read a row a positive."""


class Hyperparameters(BaseModel):
    """How to train; the defaults suit some hundred runs and a processor without a GPU."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    loss: Loss = "infonce"
    """See ``loss_functions`` for the equations."""
    target: Target = "dense"
    """Scores that are trained: cosine of dense vectors, MaxSim of token vectors, or their sum."""
    pooling: Pooling | None = None
    """Of token similarities; None: as the index pools them."""
    mode: Mode = "full"
    """What changes: the encoder; the encoder of queries only; a linear map of query vectors; or the
    weights of hybrid search (see ``fusion``). In all but the first the passages keep their vectors,
    so nothing is indexed again."""
    lora: int = Field(default=0, ge=0)
    """Rank of a low-rank change of the encoder's attention, in place of one of all weights; 0 for
    the latter. See ``lora``."""
    keep: float = Field(default=0.0, ge=0)
    """Weight of staying close to the old model's vectors, against forgetting."""
    average: float = Field(default=0.0, ge=0, lt=1)
    """Share of the old weights in those that are saved, which keeps most of what was learned and
    forgets less (WiSE-FT, arXiv 2109.01903, equation 1)."""
    epochs: int = Field(default=2, ge=1)
    batch_size: int = Field(default=16, ge=2)
    negatives: int = Field(default=5, ge=1)
    learning_rate: float = Field(default=5e-5, gt=0)
    """Of all weights of an encoder; a linear map and LoRA go faster, see ``pace``."""
    temperature: float = Field(default=0.05, gt=0)
    warmup: float = Field(default=0.1, ge=0, lt=1)
    dropout: bool = False
    """Train with the encoder's dropout; without, attention keeps no probabilities in memory."""
    max_tokens: int = Field(default=128, ge=16)
    """Tokens of a text that training reads."""
    seed: int = 0

    @property
    def pace(self) -> float:
        """Learning rate of what is trained.

        A linear map and low-rank changes begin as no change, and few numbers must carry it all:
        they take steps 10 times as long (for LoRA so found by https://thinkingmachines.ai/blog/lora).
        """
        few = self.mode == "adapter" or self.lora > 0
        return self.learning_rate * (10 if few else 1)

    @property
    def judged_by(self) -> Literal["dense", "late", "hybrid"]:
        """The retriever that must gain."""
        if self.mode == "fusion":
            return "hybrid"
        return "late" if self.target == "late" else "dense"

    @field_validator("mode")
    @classmethod
    def _has_a_loss(cls, mode: Mode, info: ValidationInfo) -> Mode:
        if mode == "fusion" and info.data.get("loss") != "infonce":
            raise ValueError("mode 'fusion' is learned by the loss 'infonce'")
        return mode

    @field_validator("lora")
    @classmethod
    def _of_an_encoder(cls, rank: int, info: ValidationInfo) -> int:
        mode = info.data.get("mode")
        if rank and mode in ("adapter", "fusion"):
            raise ValueError(f"mode {mode!r} trains no encoder that LoRA could change")
        return rank


def aimed(hyper: Hyperparameters | None, target: str) -> Hyperparameters:
    """Return hyperparameters with another target.

    Raises:
        ConfigError: There is no such target.
    """
    if target not in get_args(Target):
        known = ", ".join(map(repr, get_args(Target)))
        raise ConfigError(f"cannot train {target!r}", fix=f"train one of {known}")
    return (hyper or Hyperparameters()).model_copy(update={"target": target})
