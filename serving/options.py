"""Options that several commands share, and their closed sets of values.

Nothing heavy is imported here, so that ``--help`` is quick; the tests hold the sets to those of
the rooms that define them.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

DEFAULT_WORKSPACE = Path(".retrail")

WorkspaceOption = Annotated[
    Path,
    typer.Option(
        "--workspace", "-w", metavar="DIR", envvar="RETRAIL_WORKSPACE", help="Workspace directory."
    ),
]
HostOption = Annotated[str, typer.Option(help="Address to listen on; others need a token.")]
TokenOption = Annotated[
    str | None,
    typer.Option(envvar="RETRAIL_TOKEN", help="Ask it of every caller, as a bearer token."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


class By(StrEnum):
    """Retrievers."""

    KEYWORD = "keyword"
    DENSE = "dense"
    LATE = "late"
    SPARSE = "sparse"
    FILTERED = "filtered"
    HYBRID = "hybrid"


class DiversifyBy(StrEnum):
    """How hits are kept from repeating each other."""

    NONE = "none"
    MMR = "mmr"
    COVERAGE = "coverage"


class RankBy(StrEnum):
    """Retrievers that can rank what a filter admits."""

    KEYWORD = "keyword"
    DENSE = "dense"
    LATE = "late"
    SPARSE = "sparse"
    HYBRID = "hybrid"


class JudgeBy(StrEnum):
    """Who tells what was useful and what was not, where nobody else has."""

    NEGATION = "negation"
    LLM = "llm"
    CITED = "cited"
    NONE = "none"


class ModeBy(StrEnum):
    """What training changes."""

    FULL = "full"
    QUERY = "query"
    ADAPTER = "adapter"
    FUSION = "fusion"


class LossBy(StrEnum):
    """Losses."""

    INFONCE = "infonce"
    DISJ = "disj"
    LISTWISE = "listwise"
    MW = "mw"
    WASSERSTEIN = "wasserstein"
    MARGIN_MSE = "margin_mse"


class TargetBy(StrEnum):
    """Scores that are trained."""

    DENSE = "dense"
    LATE = "late"
    BOTH = "both"


class AttentionBy(StrEnum):
    """What weighs a document that was found useful."""

    NONE = "none"
    THOUGHT = "thought"
    DWELL = "dwell"


class QuestionsBy(StrEnum):
    """Whose rows the whole question is asked for."""

    NONE = "none"
    CITED = "cited"
    USEFUL = "useful"


class SwapBy(StrEnum):
    """How a whole model comes to serve."""

    REINDEX = "reindex"
    NOW = "now"


class RunStatus(StrEnum):
    """How a run stands."""

    RUNNING = "running"
    COMPLETED = "completed"
    PARTIAL = "partial"
    NOT_FOUND = "not_found"
    FAILED = "failed"


class ImportFormat(StrEnum):
    """Formats of logs that are read."""

    RETRAIL = "retrail"
    ATIF = "atif"
    BROWSECOMP_PLUS = "browsecomp-plus"
    CLICK_LOG = "click-log"
    HF_TRACES = "hf-traces"
    LANGCHAIN = "langchain"
    OPENAI = "openai"
    REACT = "react"
    TREC_SESSION = "trec-session"


class ExportFormat(StrEnum):
    """Formats in which runs, or training rows made of them, are written."""

    RETRAIL = "retrail"
    ATIF = "atif"
    BROWSECOMP_PLUS = "browsecomp-plus"
    HF_TRACES = "hf-traces"
    LANGCHAIN = "langchain"
    OPENAI = "openai"
    TREC = "trec"
    TREC_STEPS = "trec-steps"
    ST_PAIRS = "st-pairs"
    ST_TRIPLETS = "st-triplets"
    ST_NWAY = "st-nway"
    ST_DISTILLATION = "st-distillation"
    TEVATRON = "tevatron"
    FLAG_EMBEDDING = "flag-embedding"
    PYLATE_KD = "pylate-kd"
