"""Swap: what has to change for a version to serve, and bringing the slow part of it later.

A query side serves at once, by one row of the database. A whole model serves once all passages are
encoded by it (``reindex``), or at once by drift compensation over the passages of the model before
(``now``) and then, when there is time, settles: its passages are encoded aside while searches go
on, and take over if nothing is lost by it.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from ...core.errors import ConfigError, IndexMismatch
from ..index import Index
from ..learned_fusion import fused, inherit
from ..progress import Progress, quiet
from ..query_side import QuerySide, encoding_version
from ..snapshot import Snapshot
from .examples import HeldOut
from .gate import Measured, Verdict
from .held_gate import judge
from .record import Gate, read_record
from .registry import Card, Registry
from .trial import try_queries

Swap = Literal["reindex", "now"]


class SettleReport(BaseModel):
    """What settling a version did."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    verdict: Verdict
    reason: str
    version: int
    measured: list[Measured]
    """Against what served, on the queries that were held out when the version was trained."""
    generation: int
    """The generation that is served now."""


def is_whole(card: Card) -> bool:
    """Say whether a version encodes passages too, rather than queries only."""
    return card.hyperparameters.get("mode", "full") == "full"


def pair_of(index: Index, card: Card, swap: Swap = "reindex") -> tuple[str, str]:
    """Return the passages' encoder and the query side that serve a version.

    Raises:
        CorruptStore: What the version says of its query side is missing.
        IndexMismatch: It is for the passages of an encoder that never served here.
    """
    published = index.published
    if is_whole(card):
        if swap == "reindex" or published.encoder == card.reference:
            return card.reference, ""
        return published.encoder, card.reference
    wanted = QuerySide.read(index.root / card.reference).passages
    if wanted == published.fingerprint:
        return published.encoder, card.reference
    sql = "SELECT encoder FROM generations WHERE fingerprint = ? ORDER BY number DESC LIMIT 1"
    for (encoder,) in index.corpus.rows(sql, (wanted,)):
        return encoder, card.reference
    raise IndexMismatch(
        f"version {card.version} is for the passages of an encoder that is not known here",
        expected=wanted,
        found=published.fingerprint,
        mend="retrail learn",
    )


def settle(
    index: Index, version: int | None = None, *, force: bool = False, progress: Progress = quiet
) -> SettleReport:
    """Encode the passages with a whole model aside, and serve them unless something is lost.

    Killed, it goes on at the next call from what had been encoded.

    Args:
        index: Whose passages.
        version: A whole model; by default the one that serves by drift compensation.
        force: Serve it whatever is measured.
        progress: Is told about encoding and measuring.

    Raises:
        ConfigError: There is nothing to settle, or no record of the version's held-out queries.
        WorkspaceLocked: Another process is writing.
    """
    card = _to_settle(index, version)
    asked = None if force else read_record(index.root / card.reference).gate
    gate, learned = None, _learned_over(index, card)
    with index.candidate(index.load(card.reference), progress=progress) as candidate:
        if learned:
            candidate.snapshot.settings = fused(index.settings, learned)
        if asked:
            gate = _held_again(index, candidate.snapshot, asked, progress)
        if gate is None or gate.verdict == "promoted":
            if learned:
                inherit(learned, index.root / card.reference)
            candidate.publish()
    return SettleReport(
        verdict=gate.verdict if gate else "promoted",
        reason=gate.reason if gate else "it was not asked whether anything is lost",
        version=card.version,
        measured=gate.measured if gate else [],
        generation=index.generation,
    )


def _learned_over(index: Index, card: Card) -> Path | None:
    """Return the folder of the weights that serve, if they were learned since over the version."""
    serving = index.published.query
    same = encoding_version(index.root, serving) == card.reference
    return index.root / serving if same and serving != card.reference else None


def _held_again(index: Index, after: Snapshot, asked: Gate, progress: Progress) -> Gate:
    """Hold the gate on the queries it had; the gain was shown then, now nothing may be lost."""
    queries = [HeldOut(each.query, each.relevant) for each in asked.queries]
    tried = try_queries(index, index.snapshot(), after, queries, progress=progress).queries
    parts = [
        now.model_copy(update={"part": then.part})
        for now, then in zip(tried, asked.queries, strict=True)
    ]
    return judge(parts, index.settings.gate, trained=asked.trained, accept_equal=True)


def _to_settle(index: Index, version: int | None) -> Card:
    published = index.published
    registry = Registry(index.root)
    if version is None:
        encodes = encoding_version(index.root, published.query)
        serving = [card for card in registry.cards() if card.reference == encodes]
        if not any(map(is_whole, serving)):
            raise ConfigError(
                "no version serves by drift compensation, so there is nothing to settle",
                fix="name a version; retrail models list shows them",
            )
        return serving[0]
    card = registry.servable(version)
    if not is_whole(card):
        raise ConfigError(
            f"version {version} encodes queries only", fix=f"retrail models promote {version}"
        )
    if card.reference == published.encoder:
        raise ConfigError(f"version {version} has encoded the passages", fix="nothing to do")
    return card
