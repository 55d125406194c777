"""Mining a corpus of runs: every run's signals, guarded and weighted as the options say.

Runs are read one batch at a time and not kept. What needs all of them, the shares of sources, the
guard across runs of a question and the weights, is done at the end on the signals.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property

from pydantic import BaseModel, ConfigDict, Field

from ...core.batches import batched
from ...core.trajectories import Signal, Trajectory
from .augment import thoughts_of
from .examined import Place, depths, examination, places
from .guards import spare_useful_elsewhere
from .intensity import attention, intensities
from .judges import Judge, explicit_negation, patient
from .options import MiningOptions
from .signals import MiningReport, mine_some
from .sources import balanced, source_of, without_replays

_BATCH = 64
"""Runs whose openings a judge reads together."""


class Mined(BaseModel):
    """Signals of all usable runs, with their questions, and how they were obtained."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    runs: list[tuple[str, list[Signal]]]
    report: MiningReport
    ids: list[str]
    thoughts: list[dict[str, str]] = Field(default_factory=list[dict[str, str]])
    """What was thought before each query of each run, if rows are to be made of it."""
    sources: list[str] = Field(default_factory=list[str])
    """Who left each run."""
    options: MiningOptions = MiningOptions()


def mine_all(
    trajectories: Iterable[Trajectory],
    judge: Judge = explicit_negation,
    options: MiningOptions | None = None,
) -> Mined:
    """Mine every run, keeping its question beside its signals.

    Args:
        trajectories: Runs; what cannot be used is counted.
        judge: Reads openings; the options' name of a judge is not looked at here.
        options: Weights and rows.
    """
    options, report = options or MiningOptions(), MiningReport()
    if options.dwell is not None:
        judge = patient(judge, options.dwell)
    runs: list[tuple[str, list[Signal]]] = []
    ids: list[str] = []
    sources: list[str] = []
    thoughts: list[dict[str, str]] = []
    weights = _Weights(options)
    for batch in batched(without_replays(_counted(trajectories, report), report.dropped), _BATCH):
        for run, signals in zip(batch, mine_some(batch, report, judge), strict=True):
            weights.read(run, signals)
            if signals:
                runs.append((run.question, signals))
                ids.append(run.id)
                sources.append(source_of(run))
                thoughts += [thoughts_of(run)] * options.reasoning
    kept = balanced(runs, sources, options, report.dropped)
    runs = [(runs[at][0], signals) for at, signals in kept.items()]
    ids, thoughts = [ids[at] for at in kept], [thoughts[at] for at in kept if thoughts]
    sources = [sources[at] for at in kept]
    report.used = len(runs)
    weights.only(s for _, signals in runs for s in signals)
    guarded = spare_useful_elsewhere(runs, report.dropped)
    runs = [(question, weights.applied(signals)) for question, signals in guarded]
    report.levels.update(s.level.name.lower() for _, signals in runs for s in signals)
    return Mined(
        runs=runs, report=report, ids=ids, thoughts=thoughts, sources=sources, options=options
    )


def _counted(trajectories: Iterable[Trajectory], report: MiningReport) -> Iterator[Trajectory]:
    for run in trajectories:
        report.trajectories += 1
        yield run


class _Weights:
    """What the weights of signals are made of, gathered run by run."""

    def __init__(self, options: MiningOptions) -> None:
        self._options = options
        self._measured: defaultdict[str, dict[Signal, float]] = defaultdict(dict)
        """By source: a source's weights average 1, so that none outweighs its share."""
        self._places: dict[Signal, Place] = {}
        self._deepest: list[int] = []

    def read(self, run: Trajectory, signals: list[Signal]) -> None:
        self._measured[source_of(run)] |= attention(run, signals, self._options.intensity)
        if self._options.examined:
            deepest = depths(run)
            self._deepest += deepest.values()
            self._places |= places(run, signals, deepest)

    def only(self, signals: Iterable[Signal]) -> None:
        """Forget what was measured of signals that are not learned from."""
        kept = {*signals}
        for source, found in self._measured.items():
            self._measured[source] = {s: x for s, x in found.items() if s in kept}

    def applied(self, signals: list[Signal]) -> list[Signal]:
        factors = self._factors
        return [replace(s, weight=s.weight * factors[s]) if s in factors else s for s in signals]

    @cached_property
    def _factors(self) -> dict[Signal, float]:
        weighed = {s: w for found in self._measured.values() for s, w in intensities(found).items()}
        return weighed | examination(self._places, self._deepest)
