"""Division: which runs teach, which judge, and the examples and queries made of them.

No question, and no query, is on both sides. Each source is held to its share of either, counted in
what that side counts, before anything is made that mixes runs.
"""

from typing import TYPE_CHECKING

from ...core.errors import ConfigError
from ...core.trajectories import Signal
from ..index import Index
from .augment import augmented
from .examples import Example, HeldOut, build_examples, held_out, normalise, split
from .guards import spare_false_negatives, without_gone
from .hyper import Hyperparameters
from .mining import Mined
from .sources import SHARE, above_share, drawn
from .synthesis import synthesised

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

HELD_OUT_SHARE = 0.3
MIN_EXAMPLES = 16
MIN_HELD_OUT = 8

_SPARE = 4
"""Negatives kept for each that is wanted, where a teacher may strike some out."""


def divide(
    index: Index, mined: Mined, hyper: Hyperparameters, chat: "BaseChatModel | None" = None
) -> tuple[list[Example], list[HeldOut]]:
    """Split runs into training examples and held-out queries, disjoint in question and query.

    Args:
        index: The corpus they were recorded over.
        mined: What they say.
        hyper: Whose seed draws the split.
        chat: The model that writes queries, where mining is to have them.

    Raises:
        ConfigError: There is too little to learn from or to judge by.
    """
    groups = {normalise(question) for question, _ in mined.runs}
    is_held_out = split(groups, HELD_OUT_SHARE, hyper.seed)
    held = [n for n, run in enumerate(mined.runs) if is_held_out(normalise(run[0]))]
    asks = {n: len(held_out([mined.runs[n]])) for n in held}
    kept = [mined.runs[n] for n in _shared(mined, asks)]
    queries = [item for item in held_out(kept) if _known(index, item)]
    told = (*(mined.runs[n][0] for n in held), *(item.query for item in queries))
    asked = {normalise(text) for text in told}
    taught = [n for n, run in enumerate(mined.runs) if not is_held_out(normalise(run[0]))]
    left = {n: _without(mined.runs[n], asked) for n in taught}
    known = {n: mined.thoughts[n : n + 1] for n in taught}
    made = {
        n: [run, *augmented([run], known[n], mined.options, hyper.max_tokens)]
        for n, run in left.items()
    }
    taught = _shared(mined, {n: len(build_examples(rows)) for n, rows in made.items()})
    runs = [left[n] for n in taught]
    thoughts = [mined.thoughts[n] for n in taught] if mined.options.reasoning else []
    rows = [*runs, *augmented(runs, thoughts, mined.options, hyper.max_tokens)]
    if mined.options.synthetic and chat:
        rows += _written(index, mined, {n: left[n] for n in taught}, chat, hyper.seed)
    wanted = hyper.negatives * (_SPARE if mined.options.teacher else 1)
    examples = [
        example for example in build_examples(rows, wanted) if normalise(example.query) not in asked
    ]
    examples = without_gone(examples, index.texts, mined.report.dropped)
    if len(examples) < MIN_EXAMPLES or len(queries) < MIN_HELD_OUT:
        raise ConfigError(
            f"too little to learn from: {len(examples)} training examples (at least "
            f"{MIN_EXAMPLES}) and {len(queries)} held-out queries (at least {MIN_HELD_OUT}) in "
            f"{mined.report.trajectories} trajectories{_left_out(mined)}",
            fix="ask more questions, or import trajectories, then learn again",
        )
    return _guarded(index, examples, mined), queries


def _written(
    index: Index,
    mined: Mined,
    taught: dict[int, tuple[str, list[Signal]]],
    chat: "BaseChatModel",
    seed: int,
) -> list[tuple[str, list[Signal]]]:
    """Have queries written for what runs found useful, and hold each source to its share of them.

    They are written by document, however often it was found, so the shares of examples are others.
    """
    made = synthesised(
        [*taught.values()],
        chat,
        index.texts,
        lambda query, doc_id: doc_id in {hit.doc_id for hit in index.search(query)},
        count=mined.options.synthetic,
        seed=seed,
        dropped=mined.report.dropped,
    )
    run_of = {signal.trajectory_id: n for n, (_, signals) in taught.items() for signal in signals}
    rows: dict[int, list[tuple[str, list[Signal]]]] = {}
    for row in made:
        rows.setdefault(run_of[row[1][0].trajectory_id], []).append(row)
    return [row for n in _shared(mined, {n: len(rows[n]) for n in rows}) for row in rows[n]]


def _shared(mined: Mined, sizes: dict[int, int]) -> list[int]:
    """Hold each source to its share of one part of the split, in what that part counts.

    A question's part is known beforehand to whoever knows the seed, and one run may give several
    rows, so a share of all examples is none of either part.
    """
    if not mined.sources:
        return list(sizes)
    of_each = {n: (mined.sources[n], drawn(mined.runs[n][1])) for n in sizes}
    above = above_share(sizes, of_each, mined.options.per_source)
    if left := sum(sizes[n] for n in above):
        mined.report.dropped[SHARE] += left
    return [n for n in sizes if n not in above]


def _without(run: tuple[str, list[Signal]], asked: set[str]) -> tuple[str, list[Signal]]:
    """Leave out what a run says about queries to judge by, before longer queries are made of it."""
    question, signals = run
    return question, [s for s in signals if normalise(s.query) not in asked]


def _guarded(index: Index, examples: list[Example], mined: Mined) -> list[Example]:
    """Let the encoder that serves strike out negatives, if it is to."""
    if mined.options.teacher is None:
        return examples
    from .frozen import stored_vectors  # loads torch

    vectors, ratio = stored_vectors(index).vectors, mined.options.teacher
    return spare_false_negatives(
        examples, index.snapshot().encode, vectors, ratio, mined.report.dropped
    )


def _left_out(mined: Mined) -> str:
    dropped = ", ".join(f"{count} {what}" for what, count in mined.report.dropped.items())
    return f" (left out: {dropped})" if dropped else ""


def _known(index: Index, item: HeldOut) -> bool:
    """Say whether anything a query is relevant to is still in the corpus."""
    return any(index.texts([f"{doc_id}#0"]) for doc_id in item.relevant)
