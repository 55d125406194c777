"""Continual evaluation: learning period by period, and what each period's questions get meanwhile.

The table has a row for every round of learning, the first before any, and a column for the held-out
queries of every period. Right of the diagonal is what learning from the past does for what is to
come, left of it what learning from the new does to what was known: the forgetting matrix. Nothing
that is learned from in any period is asked in the tests of any.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from ..agents.workspace import Workspace
from ..core.errors import ConfigError
from ..core.metrics import per_query
from ..core.trajectories import Trajectory
from ..retrievers.searcher import Retriever
from ..retrievers.training.examples import HeldOut, held_out, normalise, split
from ..retrievers.training.mining import mine_all
from ..retrievers.training.openings import query_of

METRIC = "nDCG@10"
TEST_SHARE = 0.3


class Period(NamedTuple):
    """A stretch of time: the runs to learn from, and the queries to be judged by."""

    name: str
    runs: list[Trajectory]
    queries: list[HeldOut]


class ContinualTable(BaseModel):
    """Scores of every period's queries after every round."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str = METRIC
    periods: list[str]
    queries: list[int]
    """Of each period."""
    scores: list[list[float]]
    """Means; row r after the r-th round, row 0 before any, a column a period."""
    outcomes: list[str]
    """Of each round."""

    @property
    def gains(self) -> list[float]:
        """What all rounds together changed for each period."""
        return [last - first for first, last in zip(self.scores[0], self.scores[-1], strict=True)]

    @property
    def forward(self) -> float:
        """Mean change of a period by the rounds before it, 0 with one period."""
        ahead = [self.scores[at][at] - self.scores[0][at] for at in range(1, len(self.periods))]
        return fmean(ahead) if ahead else 0.0

    @property
    def forgetting(self) -> list[float]:
        """For each period, its best score since it was learned from, less its last."""
        columns = list(zip(*self.scores, strict=True))
        return [max(column[at + 1 :]) - column[-1] for at, column in enumerate(columns)]


def split_periods(
    trajectories: Iterable[Trajectory], periods: int, *, share: float = TEST_SHARE, seed: int = 1
) -> list[Period]:
    """Divide a log by time into periods of equally many runs, and each into learning and testing.

    Args:
        trajectories: A log, in any order.
        periods: How many.
        share: Of the questions, for testing.
        seed: Chooses them; another than that of learning, which holds out some for its gate.

    Raises:
        ConfigError: There are fewer runs than periods, or a period has nothing to be judged by.
    """
    runs = sorted(trajectories, key=_began)
    if not 0 < periods <= len(runs):
        raise ConfigError(f"{len(runs)} runs make no {periods} periods", fix="ask for fewer")
    tested = split({normalise(run.question) for run in runs}, share, seed)
    edges = [at * len(runs) // periods for at in range(periods + 1)]
    parts = [runs[start:end] for start, end in pairwise(edges)]
    taught = [[run for run in part if not tested(normalise(run.question))] for part in parts]
    lived = [run for part in taught for run in part]
    known = {normalise(run.question) for run in lived} | {
        normalise(query_of(run, step))
        for run in lived
        for step in run.steps
        if step.action == "search"
    }
    found: list[Period] = []
    for at, (part, runs_to_learn) in enumerate(zip(parts, taught, strict=True), 1):
        mined = mine_all(run for run in part if tested(normalise(run.question)))
        queries = [item for item in held_out(mined.runs) if normalise(item.query) not in known]
        if not queries:
            raise ConfigError(f"period {at} has no query to test with", fix="ask for fewer periods")
        found.append(Period(f"{at}: from {_began(part[0])[:10]}", runs_to_learn, queries))
    return found


def measure_periods(
    workspace: Workspace, tests: Sequence[Sequence[HeldOut]], by: Retriever = "dense"
) -> list[float]:
    """Return the mean score of each period's queries with what serves now."""
    return [_mean(workspace, queries, by) for queries in tests]


def evaluate_periods(
    workspace: Workspace,
    periods: Sequence[Period],
    *,
    by: Retriever = "dense",
    learning: dict[str, Any] | None = None,
    told: Callable[[str, str], None] = lambda period, outcome: None,
) -> ContinualTable:
    """Learn from one period after the other, measuring all of them after each.

    Args:
        workspace: Is changed by what it learns; give a copy.
        periods: In order.
        by: The retriever that is measured.
        learning: Arguments of :meth:`Workspace.learn`.
        told: Is given each period's name and outcome.
    """
    tests = [period.queries for period in periods]
    scores, outcomes = [measure_periods(workspace, tests, by)], list[str]()
    lived: list[Trajectory] = []
    for period in periods:
        lived += period.runs
        outcomes.append(_learned(workspace, lived, learning or {}))
        told(period.name, outcomes[-1])
        scores.append(measure_periods(workspace, tests, by))
    return ContinualTable(
        periods=[period.name for period in periods],
        queries=[len(queries) for queries in tests],
        scores=scores,
        outcomes=outcomes,
    )


def _learned(workspace: Workspace, runs: list[Trajectory], learning: dict[str, Any]) -> str:
    try:
        report = workspace.learn(trajectories=runs, **learning)
    except ConfigError as error:  # too little yet is an outcome of a period too
        return f"skipped: {error}"
    return f"{report.verdict}: {report.reason}"


def _mean(workspace: Workspace, queries: Sequence[HeldOut], by: Retriever) -> float:
    qrels = {str(n): item.relevant for n, item in enumerate(queries)}
    run = {
        str(n): {hit.doc_id: hit.score for hit in workspace.search(item.query, by=by)}
        for n, item in enumerate(queries)
    }
    return fmean(per_query(qrels, run, [METRIC])[METRIC].values())


def _began(run: Trajectory) -> str:
    return run.started_at or (run.steps[0].at if run.steps else "")
