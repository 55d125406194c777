"""The gate: a candidate serves only if it is shown to be better on queries it never saw.

Both generations are searched as they would be served, over the whole corpus. The trained retriever
must gain significantly (paired bootstrap, 95 %); the other retrievers that share the encoder must
not lose significantly.
"""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from ...core.metrics import per_query
from ...core.significance import paired_bootstrap
from ..index import Index
from ..snapshot import By, Snapshot
from .examples import HeldOut

Verdict = Literal["promoted", "kept"]

METRIC = "nDCG@10"
_DEPTH = 10


class Measured(BaseModel):
    """One retriever before and after, on the same held-out queries."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    retriever: str
    metric: str = METRIC
    before: float
    after: float
    difference: float
    low: float
    high: float
    p: float
    queries: int

    @property
    def better(self) -> bool:
        """Whether the gain is significant."""
        return self.low > 0

    @property
    def worse(self) -> bool:
        """Whether the loss is significant."""
        return self.high < 0


def measure(
    index: Index, before: Snapshot, after: Snapshot, queries: Sequence[HeldOut], by: By
) -> Measured:
    """Compare two generations with one retriever."""
    qrels = {str(n): item.relevant for n, item in enumerate(queries)}
    scores = []
    for snapshot in (before, after):
        run = {
            str(n): {
                hit.doc_id: hit.score for hit in index.search_in(snapshot, item.query, by, _DEPTH)
            }
            for n, item in enumerate(queries)
        }
        found = per_query(qrels, run, [METRIC])[METRIC]
        scores.append([found[query] for query in qrels])
    result = paired_bootstrap(*scores)
    return Measured(
        retriever=by,
        before=result.before,
        after=result.after,
        difference=result.difference,
        low=result.low,
        high=result.high,
        p=result.p,
        queries=result.queries,
    )


def decide(
    trained: Measured, others: Sequence[Measured], *, accept_equal: bool = False
) -> tuple[Verdict, str]:
    """Give the verdict and its reason in one sentence.

    Args:
        trained: The retriever that was trained.
        others: Retrievers that the change also touches.
        accept_equal: Also promote a candidate that is not significantly better or worse.
    """
    for other in others:
        if other.worse:
            return "kept", f"{other.retriever} search would lose {-other.difference:.3f} {METRIC}"
    if trained.better:
        return "promoted", f"{trained.difference:+.3f} {METRIC}, significant at 95 %"
    if trained.worse:
        return "kept", f"the candidate loses {-trained.difference:.3f} {METRIC}"
    if accept_equal:
        return (
            "promoted",
            f"{trained.difference:+.3f} {METRIC} is not significant, equal was accepted",
        )
    return "kept", f"{trained.difference:+.3f} {METRIC} is not significant"
