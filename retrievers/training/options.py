"""How signals are mined and examples are made of them: one frozen model, kept in the model's card.

The defaults give what LRAT calls filtered pairs (arXiv 2604.04949, section 3.2), unweighted. Every
switch has one module that carries it out.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

JudgeName = Literal["negation", "llm", "cited", "none"]
Attention = Literal["none", "thought", "dwell"]
Questions = Literal["none", "cited", "useful"]


class MiningOptions(BaseModel):
    """Which judge, which weights, which rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    judge: JudgeName = "negation"
    """See ``judges``."""
    per_source: float = Field(default=0.5, gt=0, le=1)
    """Share of the examples that one caller may give, where there are several; see ``sources``."""
    per_source_runs: int | None = Field(default=None, ge=1)
    """Runs of one caller that are learned from at most, the latest."""
    dwell: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Seconds; where a log tells how long an opening was read, a shorter one says nothing. Thirty
    are usual for clicks of people (Fox et al., TOIS 2005). See ``judges``."""
    intensity: Attention = "none"
    """Weighs what was found useful by the thought after it, or by how long it was read; see
    ``intensity``."""
    examined: bool = False
    """Puts negatives far below the last opened rank behind the others; see ``examined``."""
    teacher: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Drops negatives whose cosine by the present encoder exceeds this share of the positive's; see
    ``guards``."""
    reasoning: bool = False
    """Adds rows whose query has the thought before the search in front; see ``augment``."""
    questions: Questions = "none"
    """Adds rows from the whole question to what its run cited, or found useful; see ``augment``."""
    synthetic: int = Field(default=0, ge=0, le=20)
    """Queries that a chat model writes for each document that a run found useful; see
    ``synthesis``."""
