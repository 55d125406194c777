"""Diagnostics of position bias: whether what agents did not open is a usable negative.

LRAT's analysis (arXiv 2604.04949, section 2): how often a search leads to an opening, at which
ranks, after how many steps, how much of what was opened was rejected, how long the thoughts after
it are; over all runs, and by outcome. Agents without position bias open every rank about as often
as it is right; people open the first ones. A run is *answered* as its status says: nobody has
checked the answer.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from statistics import median

from pydantic import BaseModel, ConfigDict

from ...core.trajectories import HitRecord, Trajectory
from .examined import depths
from .intensity import words
from .judgements import Judgements
from .judges import Judge, Opinion, explicit_negation
from .openings import Opening, openings_of

_UNJUDGED = {Opinion.SILENT.value, Opinion.FAILED.value}


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AtRank(_Model):
    """One rank of all result lists."""

    rank: int
    shown: int
    """Documents shown there."""
    opened: int
    """Of these, opened from that list."""
    opened_share: float
    """P(opened | shown at this rank)."""
    of_openings: float
    """P(this rank | opened)."""


class Thoughts(_Model):
    """Thoughts right after the openings that were judged alike."""

    openings: int
    median_words: float
    """An opening without a thought has 0."""


class Behaviour(_Model):
    """What a group of runs did."""

    runs: int
    searches: int
    """That gave a list."""
    openings: int
    """Of documents that a list had shown."""
    steps: float | None
    """Mean of a run; as all of these, None where there is nothing to divide by."""
    searched_and_opened: float | None
    """Share of searches from whose list something was opened."""
    steps_to_first_opening: float | None
    """Median of the runs that opened something."""
    runs_without_opening: int
    mean_rank: float | None
    """Of what was opened."""
    mean_rank_shown: float | None
    """Of what was shown: where the openings of agents without position bias would be, were
    relevance spread evenly."""
    rejected: float | None
    """Share of judged openings that were rejected."""
    ranks: list[AtRank]
    thoughts: dict[str, Thoughts]
    """By judgement: cited, useful, rejected, silent."""


class Diagnostics(_Model):
    """Behaviour over all runs, and by outcome; one that nobody knows is in the first only."""

    all: Behaviour
    answered: Behaviour
    unanswered: Behaviour


def diagnose(trajectories: Iterable[Trajectory], judge: Judge = explicit_negation) -> Diagnostics:
    """Analyse runs.

    Args:
        trajectories: Runs; read once, not kept.
        judge: Tells what was rejected where nobody else has.
    """
    diagnosis = Diagnosis(judge)
    for _ in diagnosis.watched(trajectories):
        pass
    return diagnosis.result()


class Diagnosis:
    """Analyses runs on their way to somebody else, who reads them once."""

    def __init__(self, judge: Judge = explicit_negation) -> None:
        """Begin with no run; see :func:`diagnose`."""
        self._judge = judge
        self._groups = {"all": _Tally(), "answered": _Tally(), "unanswered": _Tally()}

    def watched(self, trajectories: Iterable[Trajectory]) -> Iterator[Trajectory]:
        """Pass runs on, each after it was counted."""
        for run in trajectories:
            found = list(openings_of(run))
            judged = _judged(run, found, self._judge)
            self._groups["all"].add(run, found, judged)
            if (outcome := _outcome(run)) is not None:
                self._groups[outcome].add(run, found, judged)
            yield run

    def result(self) -> Diagnostics:
        """Return the behaviour in the runs that have passed."""
        return Diagnostics(**{name: tally.behaviour() for name, tally in self._groups.items()})


def _outcome(run: Trajectory) -> str | None:
    """Tell whether a run answered; sessions of people, which end without an answer, do not say."""
    if run.status == "running" or (run.status == "partial" and run.answer is None):
        return None
    return "answered" if run.status == "completed" else "unanswered"


def _judged(run: Trajectory, found: list[Opening], judge: Judge) -> list[str]:
    """Name what each opening was found to be: by people, by the answer, else by the judge."""
    said = Judgements.of(run)
    opinions = judge(found)
    return [
        said.levels[opening.doc_id].name.lower() if opening.doc_id in said.levels else opinion.value
        for opening, opinion in zip(found, opinions, strict=True)
    ]


class _Tally:
    """Counts over one group of runs."""

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self.first: list[int] = []
        self.depths: list[int] = []
        self.shown: Counter[int] = Counter()
        self.opened: Counter[int] = Counter()
        self.words: dict[str, list[int]] = defaultdict(list)

    def add(self, run: Trajectory, found: list[Opening], judged: list[str]) -> None:
        self.lengths.append(len(run.steps))
        self.first += [opening.position + 1 for opening in found[:1]]
        self.depths += depths(run).values()
        for step in run.steps:
            if step.action == "search":
                self.shown.update(_ranks(step.observation.hits or []))
        # A document that is opened twice from one list is one choice.
        self.opened.update(rank for _, _, rank in {(o.list_step, o.doc_id, o.rank) for o in found})
        for opening, judgement in zip(found, judged, strict=True):
            self.words[judgement].append(words(opening.thought))

    def behaviour(self) -> Behaviour:
        judged = {name: len(found) for name, found in self.words.items() if name not in _UNJUDGED}
        return Behaviour(
            runs=len(self.lengths),
            searches=len(self.depths),
            openings=sum(len(found) for found in self.words.values()),
            steps=_share(sum(self.lengths), len(self.lengths)),
            searched_and_opened=_share(sum(d > 0 for d in self.depths), len(self.depths)),
            steps_to_first_opening=median(self.first) if self.first else None,
            runs_without_opening=len(self.lengths) - len(self.first),
            mean_rank=_mean_rank(self.opened),
            mean_rank_shown=_mean_rank(self.shown),
            rejected=_share(judged.get("rejected", 0), sum(judged.values())),
            ranks=[self._at(rank) for rank in sorted(self.shown)],
            thoughts={
                name: Thoughts(openings=len(found), median_words=median(found))
                for name, found in sorted(self.words.items())
            },
        )

    def _at(self, rank: int) -> AtRank:
        shown, opened = self.shown[rank], self.opened[rank]
        return AtRank(
            rank=rank,
            shown=shown,
            opened=opened,
            opened_share=opened / shown,
            of_openings=opened / (self.opened.total() or 1),
        )


def _ranks(hits: list[HitRecord]) -> Iterable[int]:
    """Return the best rank of each document of a list."""
    return {hit.doc_id: hit.rank for hit in reversed(hits)}.values()


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _mean_rank(counts: Counter[int]) -> float | None:
    return _share(sum(rank * count for rank, count in counts.items()), counts.total())
