"""Aggregate: exact answers over all documents a filter admits, where top-k search would guess.

Count, minimum, maximum, groups and lists over metadata; every row names documents it rests on.
"""

from collections import Counter
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..core.documents import MetadataValue
from ..core.errors import ToolError
from ..core.filter_values import Kind, typed_value
from ..core.filters import Comparison
from ..retrievers.index import Index

Operation = Literal["count", "min", "max", "group", "list"]

_PROVENANCE = 5
_KINDS: tuple[Kind, ...] = ("number", "date", "string", "bool")


class Aggregation(BaseModel):
    """A request: an operation, over which documents, by which field."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    operation: Operation
    field: str | None = None
    """Needed for min, max and group; optional for list."""
    where: str | None = None
    """A filter, as text."""
    result_of: int | None = None
    """The number of an earlier search of this run, to aggregate its documents only."""
    k: int = Field(default=20, ge=1, le=1000)
    """Rows at most; the count is always of all."""


def aggregate(
    index: Index, request: Aggregation, doc_ids: list[str] | None = None
) -> list[dict[str, Any]]:
    """Compute a table over metadata.

    Raises:
        ToolError: The operation needs a field that was not given.
        FilterError: The filter or the field does not fit the corpus.
    """
    where = index.filter(request.where)
    if request.field is not None:
        index.schema().check(Comparison(field=request.field, op="exists", value=True))
    elif request.operation in ("min", "max", "group"):
        fields = ", ".join(index.schema().fields)
        raise ToolError(f"{request.operation!r} needs a field", fix=f"pass field: one of {fields}")
    rows = [
        (doc_id, {"title": title} | metadata)
        for doc_id, title, metadata in index.corpus.metadata_of(where, index.generation, doc_ids)
    ]
    if request.operation == "count":
        return [_count(rows, request.field)]
    if request.operation == "list":
        return [_line(doc_id, fields, request.field) for doc_id, fields in rows[: request.k]]
    if request.operation == "group":
        return _groups(rows, request.field or "", request.k)
    return _extreme(rows, request.field or "", request.operation == "max", request.k)


Row = tuple[str, dict[str, Any]]


def _count(rows: list[Row], field: str | None) -> dict[str, Any]:
    kept = [row for row in rows if field is None or field in row[1]]
    counted: dict[str, Any] = {"count": len(kept)}
    if field is not None:
        counted["distinct"] = len({v for _, fields in kept for v in _values(fields[field])})
    return counted | {"doc_ids": [doc_id for doc_id, _ in kept[:_PROVENANCE]]}


def _line(doc_id: str, fields: dict[str, Any], field: str | None) -> dict[str, Any]:
    line = {"doc_id": doc_id, "title": fields["title"]}
    return line | ({field: fields.get(field)} if field else {})


def _groups(rows: list[Row], field: str, k: int) -> list[dict[str, Any]]:
    counts: Counter[Any] = Counter()
    members: dict[Any, list[str]] = {}
    for doc_id, fields in rows:
        for value in dict.fromkeys(_values(fields.get(field, []))):
            counts[value] += 1
            members.setdefault(value, []).append(doc_id)
    ordered = sorted(counts, key=lambda value: (-counts[value], str(value)))
    return [
        {field: value, "count": counts[value], "doc_ids": members[value][:_PROVENANCE]}
        for value in ordered[:k]
    ]


def _extreme(rows: list[Row], field: str, largest: bool, k: int) -> list[dict[str, Any]]:
    """Return the documents that share the extreme value; numbers go before dates and text.

    Values compare as filters compare them: dates are instants, whatever zone they are written in.
    """
    found = [
        (typed_value(value), {"doc_id": doc_id, "title": fields["title"], field: value})
        for doc_id, fields in rows
        for value in _values(fields.get(field, []))
    ]
    present = {typed.kind for typed, _ in found}
    kind = next((kind for kind in _KINDS if kind in present), None)
    pool = [(typed.value, row) for typed, row in found if typed.kind == kind]
    best = (max if largest else min)((value for value, _ in pool), default=None)
    return [row for value, row in pool if value == best][:k]


def _values(value: MetadataValue) -> list[Any]:
    return value if isinstance(value, list) else [value]
