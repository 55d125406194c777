"""Logs of searches and openings as events: sessions of people, shops, sub-queries of agents.

``{"id", "query", "steps": [{"type": "search", "query", "results": [{"rank", "doc_id"}]}, {"type":
"open", "doc_id", "dwell_s"}, {"type": "reason" | "answer", "text"}]}``. How long a person stayed on
what they opened is kept as ``dwell_ms``. Ids are always documents'.
"""

from itertools import pairwise

from .builder import RunBuilder
from .fields import (
    Object,
    as_id,
    as_list,
    as_moment,
    as_number,
    as_object,
    as_objects,
    as_text,
    emptied,
    first_of,
    shown_name,
)

FORMAT = "click-log"
_DWELL = ("dwell_ms", "dwell_s")
_TYPES = ("search", "open", "click", "reason", "answer", "action")


def is_click_log(value: object) -> bool:
    """Tell whether this is such a log."""
    record = as_object(value)
    steps = as_objects(record.get("steps"))
    return "agent" not in record and bool(steps) and steps[0].get("type") in _TYPES


def from_click_log(builder: RunBuilder, value: object, form: str = FORMAT) -> Object:
    """Read one session.

    Raises:
        ValueError: It has neither question nor query, or nothing was done in it.
    """
    record = as_object(value)
    builder.documents = True
    for event in as_objects(record.get("steps")):
        builder.note(event)
        _tell(builder, event)
    times = [step["at"] for step in builder.steps if step["at"]]
    if back := sum(after < before for before, after in pairwise(times)):
        builder.dropped["clocks that go back, whose order is the log's"] += back
    people = any("dwell_ms" in step["observation"] for step in builder.steps)
    return builder.run(
        form,
        as_text(first_of(record, ("query", "question"))) or None,
        emptied(record, "steps"),
        id=as_id(record.get("id")),
        query_id=as_id(first_of(record, ("query_id", "qid", "topic"))),
        planner=as_id(record.get("agent_name")) or ("person" if people else None),
    )


def _tell(builder: RunBuilder, event: Object) -> None:
    at = as_moment(first_of(event, ("at", "t", "timestamp")))
    kind, text = event.get("type"), as_text(first_of(event, ("text", "output")))
    match kind:
        case "search":
            tool = as_id(event.get("tool"))
            asked = {"query": as_text(event.get("query"))}
            page = event.get("page")
            asked |= {"page": page} if isinstance(page, int) else {}
            key = builder.call("search", asked | ({"retriever": tool} if tool else {}), at=at)
            unreadable = not isinstance(event.get("results"), list)
            builder.result(key, "" if unreadable else as_list(event.get("results")))
        case "open" | "click":
            _open(builder, event, at)
        case "reason":
            builder.think(text)
        case "answer":
            builder.answer(text)
        case _:
            builder.dropped[f"events of the type {shown_name(kind)}"] += 1


def _open(builder: RunBuilder, event: Object, at: str | None) -> None:
    doc_id = as_id(first_of(event, ("doc_id", "docid", "id", "docno")))
    if doc_id is None:
        builder.dropped["openings of no document"] += 1
        return
    key = builder.call("open", {"docid": doc_id}, at=at)
    builder.result(key, as_text(event.get("page")))
    step = builder.steps[-1]
    step["tool"] = as_id(event.get("tool")) or "open"
    told = first_of(event, _DWELL)
    dwell = _milliseconds(event)
    if dwell is not None:
        step["observation"]["dwell_ms"] = round(dwell, 3)
    elif told is not None:
        builder.dropped["dwell times that are no length of time"] += 1
    if not event.get("page"):
        del step["observation"]["chars"]  # the log does not say how much there was to read


def _milliseconds(event: Object) -> float | None:
    """Return how long something was read.

    >>> _milliseconds({"dwell_s": 2}), _milliseconds({"dwell_ms": -1}), _milliseconds({})
    (2000.0, None, None)
    """
    ms, seconds = (as_number(event.get(name)) for name in _DWELL)
    dwell = as_number(seconds * 1000) if ms is None and seconds is not None else ms
    return dwell if dwell is not None and dwell >= 0 else None
