"""Training examples from signals: one query, one positive, a few hard negatives, a weight.

Negatives are ordered as LRAT orders them: rejected after reading, then passed over; among these the
more surely seen, then the latest first. The split into training and held-out part is by normalised
query *and* question group, so that nothing about a held-out question was learned from.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ...core.trajectories import Level, Signal

_NOT_WORD = re.compile(r"\W+")


class Negative(NamedTuple):
    """How a negative came to be one."""

    level: Level = Level.UNOPENED
    weight: float = 1.0
    """How surely it is one, in [0, 1]; see ``examined``."""


PASSED_OVER = Negative()
"""What is assumed of a passage of which nothing is known."""


@dataclass(frozen=True, slots=True)
class Example:
    """One row of training: ids of passages, not texts."""

    group: str
    """Normalised question of the run; the unit of splitting."""
    query: str
    positive: str
    """Passage id."""
    negatives: tuple[str, ...]
    """Passage ids, hardest first."""
    weight: float
    level: Level = Level.USEFUL
    """Of the positive."""
    judged: Mapping[str, Negative] = field(default_factory=dict[str, Negative])
    """Of negatives by passage id; others count as passed over."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """One held-out query with the documents its runs found useful."""

    query: str
    relevant: dict[str, int]
    """Document id → gain."""


def normalise(query: str) -> str:
    """Fold a query to its words, so that rewordings of case and punctuation are one.

    >>> normalise("  What's UP? ")
    'what s up'
    """
    return _NOT_WORD.sub(" ", query.casefold()).strip()


def build_examples(
    runs: Iterable[tuple[str, Sequence[Signal]]], negatives: int = 5
) -> list[Example]:
    """Make an example of every useful or cited passage of each run.

    Args:
        runs: Pairs of a run's question and its signals.
        negatives: Most negatives a row; rows may have fewer, or none.
    """
    examples: list[Example] = []
    for question, signals in runs:
        by_query: dict[str, list[Signal]] = defaultdict(list)
        for signal in signals:
            by_query[signal.query].append(signal)
        for query, found in by_query.items():
            hard = sorted(
                (s for s in found if s.level <= Level.REJECTED),
                key=lambda s: (-s.level, -s.weight, -s.step),
            )
            pool = {s.passage_id: Negative(s.level, min(s.weight, 1.0)) for s in hard[:negatives]}
            examples += [
                Example(
                    normalise(question), query, s.passage_id, tuple(pool), s.weight, s.level, pool
                )
                for s in found
                if s.level >= Level.USEFUL
            ]
    return examples


def held_out(runs: Iterable[tuple[str, Sequence[Signal]]]) -> list[HeldOut]:
    """Collect what the runs of held-out questions found useful, by query."""
    relevant: dict[str, dict[str, int]] = defaultdict(dict)
    for _, signals in runs:
        for signal in signals:
            if signal.level >= Level.USEFUL:
                relevant[signal.query][signal.doc_id] = 1
    return [HeldOut(query, found) for query, found in sorted(relevant.items())]


def split(groups: Iterable[str], share: float, seed: int = 0) -> Callable[[str], bool]:
    """Choose held-out groups by a seeded hash; the choice of a group never depends on others.

    Returns:
        A predicate that is true for held-out groups.
    """
    chosen = {group for group in groups if _fraction(group, seed) < share}
    return chosen.__contains__


def _fraction(group: str, seed: int) -> float:
    digest = hashlib.blake2b(f"{seed}:{group}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64
