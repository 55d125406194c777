"""Rows of training: a query with passages of equal number, positives first, and what was judged.

Grades are a signal's level over the highest: cited 1, useful 2/3, rejected 1/3, passed over 0.

Rows of most losses hold one positive; losses over lists read all positives of a query as one row.
Rows that are short of negatives are filled with random passages, never with a positive of the same
query.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from ...core.errors import ConfigError
from ...core.trajectories import Level
from .examples import PASSED_OVER, Example, Negative
from .hyper import LISTS, Hyperparameters

Texts = Callable[[Sequence[str]], dict[str, str]]
"""Looks up what the encoder reads of passages, by passage id; ids that are gone are left out."""

_MOST_POSITIVES = 4
"""Of one row; every row is as wide as the widest, and passages are what training costs."""


class Row(NamedTuple):
    """One query with its passages."""

    query: str
    passages: list[str]
    """Passage ids, positives first; as many in every row."""
    positives: int
    grades: list[float]
    """Of the passages, in [0, 1]."""
    against: list[float]
    """How surely each passage is a negative, in [0, 1]; 1 for positives."""
    weight: float

    @property
    def label(self) -> list[float]:
        """What the loss reads but for the passages' numbers; see ``loss.Labels``."""
        return [self.weight, self.positives, *self.grades, *self.against]


def select_rows(
    examples: Sequence[Example], texts: Texts, corpus: Sequence[str], hyper: Hyperparameters
) -> tuple[list[Row], dict[str, str]]:
    """Turn examples into rows of equal width, and look the texts of their passages up.

    Raises:
        ConfigError: No example has a positive that is still in the corpus.
    """
    rng = random.Random(hyper.seed)
    judged = list(_lists(examples) if hyper.loss in LISTS else _pairs(examples))
    width = max((len(one.grades) for one in judged), default=1) + hyper.negatives
    pools = [
        [*list(one.hard)[: hyper.negatives], *rng.choices(corpus, k=2 * (width - len(one.grades)))]
        for one in judged
    ]
    known = texts(
        list({i for one, p in zip(judged, pools, strict=True) for i in (*one.grades, *p)})
    )
    positives: dict[str, set[str]] = {}
    for example in examples:
        positives.setdefault(example.query, set()).add(example.positive)
    rows: list[Row] = []
    for one, pool in zip(judged, pools, strict=True):
        good = {i: grade for i, grade in one.grades.items() if i in known}
        usable = [i for i in dict.fromkeys(pool) if i in known and i not in positives[one.query]]
        wanted = width - len(good)
        if good and len(usable) >= wanted:
            rows.append(_row(one, good, usable[:wanted]))
    if not rows:
        raise ConfigError(
            "no training example refers to this corpus", fix="record trajectories over it first"
        )
    return rows, known


def build_rows(
    examples: Sequence[Example], texts: Texts, corpus: Sequence[str], hyper: Hyperparameters
) -> list[dict[str, Any]]:
    """Turn examples into the columns that sentence-transformers' trainer reads.

    Raises:
        ConfigError: No example has a positive that is still in the corpus.
    """
    return columns(*select_rows(examples, texts, corpus, hyper))


def columns(
    rows: Sequence[Row], known: dict[str, str], query_prompt: str = "", passage_prompt: str = ""
) -> list[dict[str, Any]]:
    """Name the texts of rows; the label ends with each passage's number, by :func:`numbered`."""
    numbers = numbered(rows)
    names = ["positive", *(f"negative_{n}" for n in range(len(rows[0].passages) - 1))]
    if any(row.positives > 1 for row in rows):
        names = [f"passage_{n}" for n in range(len(names))]
    return [
        {"query": query_prompt + row.query}
        | {name: passage_prompt + known[i] for name, i in zip(names, row.passages, strict=True)}
        | {"label": [*row.label, *(numbers[i] for i in row.passages)]}
        for row in rows
    ]


def numbered(rows: Sequence[Row]) -> dict[str, int]:
    """Number the distinct passages of rows."""
    return {i: n for n, i in enumerate(dict.fromkeys(i for row in rows for i in row.passages))}


class _Judged(NamedTuple):
    query: str
    grades: dict[str, float]
    """Of positives, by passage id."""
    hard: dict[str, Negative]
    weight: float


def _grade(level: Level) -> float:
    return level / max(Level)


def _row(one: _Judged, good: dict[str, float], bad: Sequence[str]) -> Row:
    negatives = [one.hard.get(identifier, PASSED_OVER) for identifier in bad]
    return Row(
        one.query,
        [*good, *bad],
        len(good),
        [*good.values(), *(_grade(negative.level) for negative in negatives)],
        [*[1.0] * len(good), *(negative.weight for negative in negatives)],
        one.weight,
    )


def _hard(examples: Sequence[Example]) -> dict[str, Negative]:
    """Return negatives in their order; of what examples judge differently, the gravest word."""
    found: dict[str, Negative] = {}
    for example in examples:
        for identifier in example.negatives:
            told = example.judged.get(identifier, PASSED_OVER)
            found[identifier] = max(told, found.get(identifier, told))
    return found


def _pairs(examples: Sequence[Example]) -> Iterator[_Judged]:
    for example in examples:
        grades = {example.positive: _grade(example.level)}
        yield _Judged(example.query, grades, _hard([example]), example.weight)


def _lists(examples: Sequence[Example]) -> Iterator[_Judged]:
    by_query: dict[str, list[Example]] = {}
    for example in examples:
        by_query.setdefault(example.query, []).append(example)
    for query, found in by_query.items():
        best: dict[str, Example] = {}
        for example in sorted(found, key=lambda e: (-e.level, -e.weight)):
            best.setdefault(example.positive, example)
        most = list(best.values())[:_MOST_POSITIVES]
        grades = {example.positive: _grade(example.level) for example in most}
        yield _Judged(query, grades, _hard(found), fmean(example.weight for example in most))
