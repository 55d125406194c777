"""Plan: what an evaluation is to measure, checked before anything is done."""

from collections.abc import Sequence
from typing import NamedTuple, get_args

from langchain_core.language_models import BaseChatModel

from ..agents.planners import choose_planner
from ..agents.run import Planner
from ..core.errors import ConfigError
from ..core.metrics import parse_measure
from ..retrievers.snapshot import By

RETRIEVERS = ("keyword", "dense", "late", "hybrid")
"""Retrievers that every workspace has; ``filtered`` would need a filter for each query."""

_KNOWN = get_args(By)
"""Those that may be named; ``sparse`` needs an encoder of its own in the settings."""

METRICS = ("nDCG@10", "RR@10", "AP@100", "R@10", "R@100")
"""Measures if none are named."""


class Plan(NamedTuple):
    """What is to be measured, checked."""

    by: tuple[str, ...]
    planner: Planner | None
    metrics: tuple[str, ...]
    k: int
    limit: int | None
    seed: int


def check_metrics(names: Sequence[str], k: int) -> tuple[str, ...]:
    """Return measures under the names that ir_measures gives them, each once.

    Raises:
        ConfigError: One is unknown, or looks deeper than the k documents that are retrieved.
    """
    parsed = [parse_measure(name) for name in names]
    for measure in parsed:
        cutoff = measure.params.get("cutoff", 0)
        if cutoff > k:
            raise ConfigError(
                f"{measure} looks deeper than the {k} documents retrieved", fix=f"pass -k {cutoff}"
            )
    if not parsed:
        raise ConfigError("there is no metric", fix="name one, such as nDCG@10")
    return tuple(dict.fromkeys(str(measure) for measure in parsed))


def make_plan(
    by: Sequence[str],
    planner: str | Planner | None,
    model: str | BaseChatModel | None,
    metrics: Sequence[str],
    k: int,
    limit: int | None,
    seed: int,
) -> Plan:
    """Check what was asked for, see :func:`evaluate`.

    Raises:
        ConfigError: A retriever, planner, model or metric does not exist, or a number is too small.
    """
    for name in by:
        if name not in _KNOWN:
            known = ", ".join(_KNOWN)
            raise ConfigError(f"cannot evaluate by {name!r}", fix=f"use {known} or all")
    for name, value in (("k", k), ("limit", limit)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} is {value}", fix="ask for at least 1")
    if planner is None and model is not None:
        raise ConfigError("a model needs an agent", fix="leave the model or the planner out")
    chosen = choose_planner(planner, model) if planner is not None else None
    if not by and chosen is None:
        raise ConfigError("there is nothing to measure", fix="name a retriever or a planner")
    return Plan(tuple(dict.fromkeys(by)), chosen, check_metrics(metrics, k), k, limit, seed)
