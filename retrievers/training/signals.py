"""Mine signals from trajectories: what each run says about (query, document) pairs.

Follows LRAT (arXiv 2604.04949, section 3.2 and its released builder), with three states instead of
two. A document opened after a query is *useful* unless the thought right after it judges against
it; cited documents stand above, passed-over ones below. The pool that counts against a useful
document, rejected or passed over, spans every search since the last useful opening.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from ...core.trajectories import Level, Signal, Step, Trajectory

Judge = Callable[[str | None], bool | None]
"""Reads the thought after an opening: True useful, False rejected, None cannot tell."""

WEIGHTS = {Level.CITED: 1.0, Level.USEFUL: 0.7, Level.REJECTED: 1.0, Level.UNOPENED: 1.0}
"""How much a signal of each level counts in training."""

_NOT = r"(?:\bnot|n['’]t)"
_AGAINST = re.compile(
    rf"{_NOT} (?:(?:at all|very|really|directly|particularly) )?(?:relevant|useful|helpful)\b|"
    rf"{_NOT} what\b|\b(?:does|did) ?{_NOT} (?:help|answer|mention|contain|say|fit|match)\b|"
    r"\b(?:irrelevant|off[- ]topic|unrelated|no (?:use(?:ful)?|relevant|helpful)|"
    r"nothing (?:new|useful|relevant|helpful|about)|can(?:not|['’]t) answer|"
    r"wrong (?:one|page|document|function|passage))\b",
    re.IGNORECASE,
)


def explicit_negation(thought: str | None) -> bool | None:
    """Judge by the words of the thought; silence is not a judgement.

    >>> explicit_negation("This is not relevant, I try another."), explicit_negation("Good.")
    (False, True)
    """
    if not thought or not thought.strip():
        return None
    return _AGAINST.search(thought) is None


@dataclass(slots=True)
class MiningReport:
    """How much was found and how much could not be used."""

    trajectories: int = 0
    used: int = 0
    levels: Counter[str] = field(default_factory=Counter[str])
    dropped: Counter[str] = field(default_factory=Counter[str])


def mine_one(trajectory: Trajectory, report: MiningReport, judge: Judge) -> list[Signal]:
    """Mine one run; the result has each (query, document) once, at its highest level."""
    cited = {c.doc_id for c in trajectory.answer.citations} if trajectory.answer else set[str]()
    miner = _Miner(trajectory, cited, report, judge)
    for position, step in enumerate(trajectory.steps):
        if step.observation.error is not None:
            report.dropped["failed calls"] += 1
        elif step.action == "search" and step.observation.hits is not None:
            miner.searched(step)
        elif step.action == "browse" and step.observation.doc_id is not None:
            miner.browsed(step, _thought_after(trajectory.steps, position))
    if not miner.signals:
        report.dropped["runs without an opening of a shown document"] += 1
    return miner.finish()


class _Miner:
    """State of one run: what was shown and opened since the last useful opening."""

    def __init__(
        self, trajectory: Trajectory, cited: set[str], report: MiningReport, judge: Judge
    ) -> None:
        self.trajectory = trajectory
        self.cited = cited
        self.report = report
        self.judge = judge
        self.signals: dict[tuple[str, str], Signal] = {}
        self._forget()

    def searched(self, step: Step) -> None:
        """Take in a list; one that follows a useful opening begins a new pool."""
        if self.useful:
            self._settle()
        self.searches.append(step)

    def browsed(self, step: Step, thought: str | None) -> None:
        """Judge an opening, under the query of the nearest list that showed the document."""
        doc_id = step.observation.doc_id or ""
        shown = next((s for s in reversed(self.searches) if _shows(s, doc_id)), None)
        if shown is None:
            self.report.dropped["opened without having been shown"] += 1
            return
        self.opened.add(doc_id)
        level = self._level(doc_id, thought)
        if level is None:
            self.report.dropped["openings that nobody judged"] += 1
            return
        query = str(shown.args.get("query") or self.trajectory.question)
        passage_id = _passage_of(shown, doc_id)
        self._note(query, doc_id, passage_id, level, step.n)
        if level >= Level.USEFUL:
            self.useful.setdefault(doc_id, query)
            self.rejected.pop(doc_id, None)
        elif doc_id not in self.useful:
            self.rejected[doc_id] = (passage_id, step.n)

    def finish(self) -> list[Signal]:
        """Settle what is open; the order is by step, then by falling level."""
        self._settle()
        return sorted(self.signals.values(), key=lambda s: (s.step, -s.level, s.doc_id))

    def _level(self, doc_id: str, thought: str | None) -> Level | None:
        if doc_id in self.cited:
            return Level.CITED
        verdict = self.judge(thought)
        return None if verdict is None else Level.USEFUL if verdict else Level.REJECTED

    def _settle(self) -> None:
        """Count the pool against each query that led to something useful, and empty it.

        Done only when the openings in a row are over: what was opened next was not passed over.
        """
        read = self.opened | self.cited
        for query in dict.fromkeys(self.useful.values()):
            for doc_id, (passage_id, step) in self.rejected.items():
                self._note(query, doc_id, passage_id, Level.REJECTED, step)
            for shown in reversed(self.searches):
                for hit in shown.observation.hits or []:
                    if hit.doc_id not in read:
                        self._note(query, hit.doc_id, hit.passage_id, Level.UNOPENED, shown.n)
        self._forget()

    def _forget(self) -> None:
        self.searches: list[Step] = []
        self.opened: set[str] = set()
        self.rejected: dict[str, tuple[str, int]] = {}
        self.useful: dict[str, str] = {}

    def _note(self, query: str, doc_id: str, passage_id: str, level: Level, step: int) -> None:
        known = self.signals.get((query, doc_id))
        if known is None or known.level < level:
            self.signals[query, doc_id] = Signal(
                self.trajectory.id, query, doc_id, passage_id, level, WEIGHTS[level], step
            )


def _shows(step: Step, doc_id: str) -> bool:
    return any(hit.doc_id == doc_id for hit in step.observation.hits or [])


def _passage_of(step: Step, doc_id: str) -> str:
    return next(h.passage_id for h in step.observation.hits or [] if h.doc_id == doc_id)


def _thought_after(steps: list[Step], position: int) -> str | None:
    """Return the thought that followed an opening, which says what it gave."""
    return steps[position + 1].thought if position + 1 < len(steps) else None
