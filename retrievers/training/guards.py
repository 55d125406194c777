"""Guards of examples: against false negatives, which are right after all, and what is gone.

Two witnesses are heard against what was passed over, or even rejected: other runs of the same
question, always; and a teacher, the encoder that serves, if it is asked for. Documents found useful
elsewhere, and negatives that score too near to their positive, are left out of the negatives and
counted.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf

from ...core.batches import batched
from ...core.trajectories import Level, Signal
from ..encoder import Encoded, Vectors
from .examples import Example, normalise
from .rows import Texts

Runs = Sequence[tuple[str, list[Signal]]]

OTHER_RUNS = "negatives that another run of the question found useful"
GONE_POSITIVES = "examples whose passage is gone from the corpus"
GONE_NEGATIVES = "negatives that are gone from the corpus"
TEACHER = "negatives that score too near to their positive"

_BATCH = 256
"""Passages whose vectors are looked up at a time; token vectors come with them."""


def spare_useful_elsewhere(runs: Runs, dropped: Counter[str]) -> list[tuple[str, list[Signal]]]:
    """Leave out negatives of a run that another run of the same question found useful.

    Args:
        runs: Pairs of a run's question and its signals.
        dropped: Counts what is left out.
    """
    useful_in: dict[str, Counter[str]] = defaultdict(Counter)
    own = [{s.doc_id for s in signals if s.level >= Level.USEFUL} for _, signals in runs]
    for (question, _), documents in zip(runs, own, strict=True):
        useful_in[normalise(question)].update(documents)
    kept: list[tuple[str, list[Signal]]] = []
    for (question, signals), documents in zip(runs, own, strict=True):
        runs_with = useful_in[normalise(question)]
        left = [
            s
            for s in signals
            if s.level >= Level.USEFUL or runs_with[s.doc_id] <= (s.doc_id in documents)
        ]
        if spared := len(signals) - len(left):
            dropped[OTHER_RUNS] += spared
        kept.append((question, left))
    return kept


def spare_false_negatives(
    examples: Sequence[Example],
    queries: Callable[[str], Encoded],
    vectors: Callable[[Sequence[str]], dict[str, Encoded]],
    ratio: float,
    dropped: Counter[str],
) -> list[Example]:
    """Leave out negatives whose cosine exceeds a share of the positive's.

    With 0.6 this is the mask of arXiv 2502.19712; near 1 it spares only what scores about as high
    as the positive. Passages that are gone stay: they cannot be scored, and training leaves them
    out.

    Args:
        examples: What was mined.
        queries: Encodes a query by the teacher.
        vectors: Looks vectors of passages up, by the same teacher.
        ratio: The share, above 0.
        dropped: Counts what is left out.
    """
    known: dict[str, Vectors] = {}
    for names in batched(dict.fromkeys(i for e in examples for i in _passages(e)), _BATCH):
        known |= {name: encoded.dense for name, encoded in vectors(names).items()}
    asked = {query: queries(query).dense for query in {e.query for e in examples}}
    kept: list[Example] = []
    for example in examples:
        cosines = {
            i: float(asked[example.query] @ known[i]) for i in _passages(example) if i in known
        }
        limit = ratio * cosines.get(example.positive, inf)
        left = tuple(i for i in example.negatives if cosines.get(i, -inf) <= limit)
        if spared := len(example.negatives) - len(left):
            dropped[TEACHER] += spared
        kept.append(replace(example, negatives=left))
    return kept


def without_gone(examples: Sequence[Example], texts: Texts, dropped: Counter[str]) -> list[Example]:
    """Leave out what the corpus no longer has.

    Args:
        examples: What was mined.
        texts: Looks passages up; ids that are gone are left out.
        dropped: Counts what is left out.
    """
    known: set[str] = set()
    for names in batched(dict.fromkeys(i for e in examples for i in _passages(e)), _BATCH):
        known.update(texts(names))
    kept = [example for example in examples if example.positive in known]
    left = [replace(e, negatives=tuple(i for i in e.negatives if i in known)) for e in kept]
    negatives = [sum(len(e.negatives) for e in some) for some in (kept, left)]
    gone = {GONE_POSITIVES: len(examples) - len(kept), GONE_NEGATIVES: negatives[0] - negatives[1]}
    dropped.update({what: count for what, count in gone.items() if count})
    return left


def _passages(example: Example) -> tuple[str, ...]:
    return (example.positive, *example.negatives)
