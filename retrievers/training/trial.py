"""A trial: the same queries before and after, searched as they would be served.

Each query is encoded once a generation and ranked by every retriever over the whole corpus; what is
kept of it, scores and best documents, is all that the gate and its report are made of.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from ...core.documents import Hit
from ...core.metrics import per_query
from ...core.settings import GateTest
from ..index import Index
from ..progress import Progress, quiet
from ..snapshot import By, Snapshot
from .examples import HeldOut
from .gate import METRIC, Measured, compare
from .query_types import query_types

TRIED: tuple[By, ...] = ("dense", "late", "hybrid")
"""Retrievers that a change of the encoder touches."""

Part = Literal["interpolation", "extrapolation", "guard"]

_DEPTH = 10
_SHOWN = 3
"""Best documents kept of either side, for the report."""


class Tried(BaseModel):
    """One query with its scores before and after, by retriever."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    query: str
    relevant: dict[str, int]
    types: dict[str, str]
    """See ``query_types``."""
    scores: dict[str, tuple[float, float]]
    best: dict[str, tuple[list[str], list[str]]]
    """Ids of the best documents before and after."""
    part: Part | None = None
    nearest: float | None = None
    """Cosine of the nearest query that was trained, by the encoder of the settings."""
    seen: bool = False
    """Whether a relevant document was trained as a positive."""


class Tries(BaseModel):
    """All queries of a trial, with the titles of the documents they name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    queries: list[Tried]
    titles: dict[str, str]


def try_queries(
    index: Index,
    before: Snapshot,
    after: Snapshot,
    queries: Sequence[HeldOut],
    by: Sequence[By] = TRIED,
    progress: Progress = quiet,
) -> Tries:
    """Search both generations for every query with every retriever.

    Args:
        index: Over the corpus.
        before: What serves.
        after: The candidate.
        queries: With the documents that are relevant.
        by: Retrievers.
        progress: Is told about ``measuring``.
    """
    found: dict[By, tuple[list[list[Hit]], list[list[Hit]]]] = {each: ([], []) for each in by}
    for done, item in enumerate(queries, 1):
        for each in by:
            for side, snapshot in zip(found[each], (before, after), strict=True):
                side.append(index.search_in(snapshot, item.query, each, _DEPTH))
        progress("measuring", done, len(queries))
    scores = {each: [_scores(queries, side) for side in sides] for each, sides in found.items()}
    tried = [
        Tried(
            query=item.query,
            relevant=item.relevant,
            types=query_types(item.query, len(item.relevant)),
            scores={each: (scores[each][0][n], scores[each][1][n]) for each in by},
            best={each: (_best(found[each][0][n]), _best(found[each][1][n])) for each in by},
        )
        for n, item in enumerate(queries)
    ]
    shown = {doc_id for item in queries for doc_id in item.relevant}
    titles = {name: p.title for name, p in index.passages(f"{d}#0" for d in shown).items()}
    titles = {name.removesuffix("#0"): title for name, title in titles.items()}
    hits = (hit for sides in found.values() for side in sides for hits in side for hit in hits)
    titles |= {hit.doc_id: hit.passage.title for hit in hits}
    return Tries(queries=tried, titles={name: title for name, title in titles.items() if title})


def measured(
    tried: Iterable[Tried],
    by: Sequence[str] = TRIED,
    *,
    candidate: int = 1,
    test: GateTest = "randomisation",
) -> list[Measured]:
    """Compare every retriever over queries that were tried."""
    queries = list(tried)
    return [
        compare(
            each,
            [query.scores[each][0] for query in queries],
            [query.scores[each][1] for query in queries],
            candidate=candidate,
            test=test,
        )
        for each in by
    ]


def measure(
    index: Index, before: Snapshot, after: Snapshot, queries: Sequence[HeldOut], by: By
) -> Measured:
    """Compare two generations with one retriever."""
    return measured(try_queries(index, before, after, queries, (by,)).queries, (by,))[0]


def _scores(queries: Sequence[HeldOut], side: Sequence[Sequence[Hit]]) -> list[float]:
    qrels = {str(n): item.relevant for n, item in enumerate(queries)}
    run = {str(n): {hit.doc_id: hit.score for hit in hits} for n, hits in enumerate(side)}
    found = per_query(qrels, run, [METRIC])[METRIC]
    return [found[query] for query in qrels]


def _best(hits: Sequence[Hit]) -> list[str]:
    return [hit.doc_id for hit in hits[:_SHOWN]]
