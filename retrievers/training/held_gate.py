"""Hold the gate: try what serves and a candidate on held-out and guard queries, and decide.

Of both nothing but what they find is looked at, so it is the same for a model that was encoded
anew, a query side over the old vectors, and whatever else a snapshot can be.
"""

from collections.abc import Callable, Sequence
from functools import cache

from ...core.settings import GateSettings
from ..encoder import Encoded
from ..index import Index
from ..progress import Progress, quiet
from ..snapshot import Snapshot
from .examples import Example, HeldOut
from .gate import Conditions, decide
from .guard import Guard
from .record import Gate
from .splits import place
from .trial import Part, Tried, measured, try_queries


def hold_gate(
    index: Index,
    after: Snapshot,
    examples: Sequence[Example],
    queries: Sequence[HeldOut],
    guard: Guard,
    *,
    trained: str = "dense",
    candidate: int = 1,
    accept_equal: bool = False,
    progress: Progress = quiet,
) -> Gate:
    """Hold a candidate against what serves.

    Args:
        index: Whose newest generation serves; its settings hold the gate's.
        after: The candidate.
        examples: What it was trained on.
        queries: Held-out ones.
        guard: What must not be lost.
        trained: The retriever that must gain.
        candidate: Its number since what serves was promoted, see ``Registry.candidate``.
        accept_equal: Also promote what is not significantly better.
        progress: Is told about measuring.
    """
    before, settings = index.snapshot(), index.settings.gate
    places, bound = place(queries, examples, _base_encoder(index))
    tries = try_queries(index, before, after, [*queries, *guard.queries], progress=progress)
    placed = [
        tried.model_copy(update=where._asdict())
        for tried, where in zip(tries.queries, places, strict=False)
    ]
    guarding = [
        tried.model_copy(update={"part": "guard"}) for tried in tries.queries[len(queries) :]
    ]
    gate = judge(
        [*placed, *guarding],
        settings,
        trained=trained,
        candidate=candidate,
        accept_equal=accept_equal,
    )
    return gate.model_copy(
        update={
            "bound": bound,
            "guard_source": guard.source,
            "guard_left_out": guard.left_out,
            "titles": tries.titles,
        }
    )


def judge(
    queries: Sequence[Tried],
    settings: GateSettings,
    *,
    trained: str = "dense",
    candidate: int = 1,
    accept_equal: bool = False,
) -> Gate:
    """Decide on queries that were tried.

    Args:
        queries: Each with its part.
        settings: The test, and the margin of the guard.
        trained: The retriever that must gain.
        candidate: Number since what serves was promoted.
        accept_equal: Also promote what is not significantly better.
    """
    test = settings.test
    parts: dict[Part | None, list[Tried]] = {
        part: [tried for tried in queries if tried.part == part]
        for part in ("interpolation", "extrapolation", "guard")
    }
    held_out = [*parts["interpolation"], *parts["extrapolation"]]
    on_all = measured(held_out, candidate=candidate, test=test)
    unlike = measured(parts["extrapolation"], test=test)
    guard = measured(parts["guard"], test=test) if parts["guard"] else []
    verdict, reason = decide(
        next(each for each in on_all if each.retriever == trained),
        Conditions(
            others=measured(held_out, test=test),
            extrapolation=next(each for each in unlike if each.retriever == trained),
            guard=guard,
            margin=settings.margin,
            candidate=candidate,
            accept_equal=accept_equal,
        ),
    )
    return Gate(
        verdict=verdict,
        reason=reason,
        trained=trained,
        candidate=candidate,
        test=test,
        margin=settings.margin,
        measured=on_all,
        interpolation=measured(parts["interpolation"], test=test),
        extrapolation=unlike,
        guard=guard,
        queries=list(queries),
    )


def _base_encoder(index: Index) -> Callable[[str], Encoded]:
    """Encode queries by the settings' encoder, once each."""
    if index.published.serving == index.settings.encoder:
        return cache(index.snapshot().encode)
    return cache(index.load(index.settings.encoder).query)
