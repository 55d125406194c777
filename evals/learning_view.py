"""What the report of a learned version shows, whatever its form.

Gathered from the version's card and from ``gate.json`` beside it, which hold all that is needed.
Advice is derived from the figures, never from the words of the verdict.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..core.settings import GateTest
from ..retrievers.training.gate import FEWEST, Measured
from ..retrievers.training.record import Gate, GateRecord
from ..retrievers.training.registry import Card
from ..retrievers.training.trial import Tried, measured

_ENDS = 10
"""Queries won and lost that are shown."""

_DEEPEST = 5_000
"""Held-out queries beyond which it is no use to ask for more."""


class Part(NamedTuple):
    """One table of figures."""

    name: str
    note: str
    rows: list[Measured]


class Document(NamedTuple):
    """A document that was found."""

    id: str
    title: str
    relevant: bool


class Example(NamedTuple):
    """A query that was won or lost."""

    query: str
    part: str
    nearest: float | None
    before: float
    after: float
    wanted: list[Document]
    best_before: list[Document]
    best_after: list[Document]


class View(NamedTuple):
    """All that either form of the report shows."""

    card: Card
    record: GateRecord
    advice: list[str]
    parts: list[Part]
    types: dict[str, list[tuple[str, Measured]]]
    """way of sorting → kinds with their figures, of the trained retriever."""
    won: list[Example]
    lost: list[Example]
    lineage: dict[str, str]


def view_of(card: Card, record: GateRecord) -> View:
    """Gather what is shown."""
    gate = record.gate
    held_out = [tried for tried in gate.queries if tried.part != "guard"]
    moved = sorted(held_out, key=lambda tried: _gain(tried, gate.trained))
    won = [t for t in reversed(moved) if _gain(t, gate.trained) > 0][:_ENDS]
    lost = [t for t in moved if _gain(t, gate.trained) < 0][:_ENDS]
    return View(
        card=card,
        record=record,
        advice=advice(gate),
        parts=_parts(gate),
        types=_types(held_out, gate.trained, gate.test),
        won=[_example(tried, gate) for tried in won],
        lost=[_example(tried, gate) for tried in lost],
        lineage=_lineage(card),
    )


def advice(gate: Gate) -> list[str]:
    """Say what would help a candidate that was kept; nothing for one that was promoted."""
    if gate.verdict == "promoted":
        return []
    trained = next(each for each in gate.measured if each.retriever == gate.trained)
    found: list[str] = []
    if any(each.low <= -gate.margin for each in gate.guard):
        found.append(
            "It forgets. Keep nearer to the present model (keep above 0), train fewer epochs or at "
            "a lower learning rate, or train the query side only (mode adapter)."
        )
    if any(each.worse for each in gate.extrapolation if each.queries >= FEWEST):
        found.append(
            "It has learned its questions by heart. Learn from more different questions; train "
            "fewer epochs."
        )
    at_95 = measured([tried for tried in gate.queries if tried.part != "guard"], test=gate.test)
    if any(each.worse for each in at_95 if each.retriever != gate.trained):
        found.append("Another retriever loses. Train both scores (target both), or keep above 0.")
    if trained.difference <= 0:
        found.append(
            "Nothing was gained. Look at the signals below: few cited or useful passages, or "
            "rejections that are not, teach the wrong thing; another judge may read them better."
        )
    elif not trained.better:
        found.append(_more_queries(trained))
    if gate.candidate > 1:
        found.append(
            f"This was candidate {gate.candidate} on held-out queries that are largely the same, "
            f"so each must pass at {100 * trained.confidence:.4g} %. Wait for new runs rather than "
            "trying again on the old ones."
        )
    return found


def _more_queries(found: Measured) -> str:
    """Estimate how many held-out queries would show a gain of this size."""
    half = (found.high - found.low) / 2
    needed = round(found.queries * (half / found.difference) ** 2) + 1
    if needed > _DEEPEST:
        return "The gain is too small to be told from chance by any likely number of queries."
    if needed <= found.queries:
        return "The gain is at the edge of what so few queries can show: more runs would tell."
    return (
        f"If the gain is real, about {needed} held-out queries would show it; there were "
        f"{found.queries}. Record more runs."
    )


def _parts(gate: Gate) -> list[Part]:
    near = (
        f"nearer than a cosine of {gate.bound:.2f} to a trained query, or with a trained document"
    )
    left_out = f"; {gate.guard_left_out} left out" if gate.guard_left_out else ""
    few = "too few passages that training does not mention: nothing was guarded"
    guard = f"{gate.guard_source}{left_out}; the lower end must stay above {-gate.margin:+.2f}"
    return [
        Part("All held-out queries", "never trained; these decide", gate.measured),
        Part("Interpolation", near, gate.interpolation),
        Part("Extrapolation", "the others: unlike what was trained", gate.extrapolation),
        Part("Guard", guard if gate.guard else few, gate.guard),
    ]


def _types(
    held_out: Sequence[Tried], trained: str, test: GateTest
) -> dict[str, list[tuple[str, Measured]]]:
    ways = dict.fromkeys(way for tried in held_out for way in tried.types)
    return {
        way: [
            (kind, measured([t for t in held_out if t.types[way] == kind], [trained], test=test)[0])
            for kind in sorted({tried.types[way] for tried in held_out})
        ]
        for way in ways
    }


def _gain(tried: Tried, by: str) -> float:
    before, after = tried.scores[by]
    return after - before


def _example(tried: Tried, gate: Gate) -> Example:
    before, after = tried.best[gate.trained]

    def shown(ids: Iterable[str]) -> list[Document]:
        return [Document(i, gate.titles.get(i, ""), i in tried.relevant) for i in ids]

    return Example(
        tried.query,
        tried.part or "",
        tried.nearest,
        *tried.scores[gate.trained],
        wanted=shown(tried.relevant),
        best_before=shown(before),
        best_after=shown(after),
    )


def _lineage(card: Card) -> dict[str, str]:
    found = {
        "version": card.reference,
        "made": card.created_at,
        "from": card.parent,
        "fingerprint": card.fingerprint,
        "runs": str(len(card.trajectories)),
        "examples": f"{card.examples}, hash {card.data_hash}",
        "code": card.code_version,
    }
    return found | {
        name: str(value) for name, value in (card.hyperparameters | card.mining).items()
    }
