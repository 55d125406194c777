"""Filters as SQL over the corpus database: ``compile_filter`` gives the ids of what matches.

Metadata lies in ``metadata(document, field, kind, text, number)``, one row per scalar, as
``metadata_rows`` writes it; all documents are in ``documents(id)``. Comparisons become selects of
rows, connectives become INTERSECT, EXCEPT and UNION of common table expressions: nesting in SQL
stays flat and chains stay short, so no filter that can be built exceeds SQLite's limits.
The result equals ``Filter.matches`` on every document.
"""

import math
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from ..core.documents import Scalar, flatten_metadata
from ..core.filter_values import Kind, Reading, Span, elements, read_literal, typed_value
from ..core.filters import And, Comparison, Filter, Not, Or

RowKind = Literal["string", "number", "bool", "date", "empty"]
MetadataRow = tuple[str, RowKind, str | None, float | None]
"""Field, kind, text and number of one row of the table ``metadata``."""

_EXACT = 2.0**53
"""Integers beyond are not all doubles."""
_CHAIN = 100
"""Terms in one chain of SQL operators; SQLite takes 500 in a compound select."""
_FEW = 8
"""Spans that are cheaper to try on each row than to look up."""
_EQUALITY = frozenset({"=", "in", "contains"})
_SPAN_SQL = {
    "=": ("number >= ? AND number < ?", (0, 1)),
    "<": ("number < ?", (0,)),
    "<=": ("number < ?", (1,)),
    ">": ("number >= ?", (1,)),
    ">=": ("number >= ?", (0,)),
}
"""How a row of kind ``date`` compares with the span [lo, hi), and which ends that takes."""


class _Sql(NamedTuple):
    """A piece of SQL with the values of its placeholders, in order."""

    text: str
    params: tuple[str | float, ...] = ()


def metadata_rows(metadata: Mapping[str, Any]) -> list[MetadataRow]:
    """Spread metadata over rows of the table ``metadata``.

    ``text`` is the verbatim string; for a number it is null, except the digits of an integer that
    no double holds. ``number`` is the number, 0 or 1, or POSIX seconds in UTC.

    >>> metadata_rows({"tag": ["a", True], "day": "1970-01-02", "none": []})
    [('tag', 'string', 'a', None), ('tag', 'bool', None, 1.0),
     ('day', 'date', '1970-01-02', 86400.0), ('none', 'empty', None, None)]
    """
    rows: list[MetadataRow] = []
    for field, value in flatten_metadata(metadata).items():
        scalars = elements(value)
        rows.extend(_row(field, scalar) for scalar in scalars)
        if not scalars:
            rows.append((field, "empty", None, None))
    return rows


def _row(field: str, scalar: Scalar) -> MetadataRow:
    kind, value = typed_value(scalar)
    text = scalar if isinstance(scalar, str) else None
    if isinstance(value, str):
        return field, kind, text, None
    number = _double(value)
    if kind == "number" and math.isfinite(number) and number != value:
        text = str(value)
    return field, kind, text, None if math.isnan(number) else number


def _double(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def register_functions(connection: sqlite3.Connection) -> None:
    """Give a connection the SQL functions that compiled filters call."""
    connection.create_function("casefold", 1, _casefold, deterministic=True)
    connection.create_function("integer_order", 2, _integer_order, deterministic=True)


def _casefold(text: str | None) -> str | None:
    return None if text is None else text.casefold()


def _integer_order(left: str, right: str) -> int:
    return (int(left) > int(right)) - (int(left) < int(right))


def compile_filter(filter: Filter) -> tuple[str, list[str | float]]:
    """Compile a filter to a SELECT of the ids of matching documents, without repetition.

    The connection needs ``register_functions``. The SELECT may stand inside another statement.

    Returns:
        The SQL and the values of its placeholders, in order.
    """
    compiler = _Compiler()
    root = compiler.select(filter)
    expressions = ",\n".join(compiler.expressions)
    prefix = f"WITH {expressions}\n" if expressions else ""
    distinct = f"SELECT DISTINCT{root.text.removeprefix('SELECT')}"
    return prefix + distinct, [*compiler.params, *root.params]


class _Compiler:
    """Turns nodes into simple selects; what is compound becomes a common table expression."""

    def __init__(self) -> None:
        self.expressions: list[str] = []
        self.params: list[str | float] = []

    def select(self, node: Filter) -> _Sql:
        """Give a simple SELECT of the documents that match, perhaps several times each."""
        if isinstance(node, Or):
            return self._union(node.any)
        if isinstance(node, Comparison) and node.op != "!=":
            return self._union([node])
        return self._intersection(node.all if isinstance(node, And) else [node])

    def _intersection(self, parts: Sequence[Filter]) -> _Sql:
        """Keep what all parts match, without what the negated ones match."""
        kept, dropped = list[_Sql](), list[Filter]()
        for part in parts:
            if isinstance(part, Not):
                dropped.append(part.inner)
            elif isinstance(part, Comparison) and part.op == "!=":
                kept.append(_rows(part.field))
                dropped.append(part.model_copy(update={"op": "="}))
            else:
                kept.append(self.select(part))
        first, *others = dict.fromkeys(kept) or [_Sql("SELECT id FROM documents")]
        chain = [("INTERSECT", sql) for sql in others]
        return self._fold(first, chain + ([("EXCEPT", self._union(dropped))] if dropped else []))

    def _union(self, parts: Sequence[Filter]) -> _Sql:
        """Join the parts; comparisons of one field share a select, whatever their number."""
        fields: defaultdict[str, list[Comparison]] = defaultdict(list)
        selects: list[_Sql] = []
        for part in parts:
            if isinstance(part, Comparison) and part.op != "!=":
                fields[part.field].append(part)
            else:
                selects.append(self.select(part))
        for field, nodes in fields.items():
            selects.extend(self._field_selects(field, nodes))
        return self._fold(selects[0], [("UNION", sql) for sql in selects[1:]])

    def _field_selects(self, field: str, nodes: Sequence[Comparison]) -> Iterator[_Sql]:
        conditions = [sql for node in nodes for sql in _inequalities(node)]
        meanings = [
            reading for node in nodes if node.op in _EQUALITY for reading in _meanings(node)
        ]
        conditions += _equal([reading for reading in meanings if reading.kind != "date"])
        spans = _merged(reading.span for reading in meanings if reading.span)
        if len(spans) > _FEW:
            yield self._within(field, spans)
        else:
            conditions += [_Sql(f"kind = 'date' AND {_SPAN_SQL['='][0]}", span) for span in spans]
        if conditions or len(spans) <= _FEW:
            yield _rows(field, _any(conditions))

    def _within(self, field: str, spans: Sequence[Span]) -> _Sql:
        """Look up each of many spans, where OR would try all of them on each row."""
        values = _Sql(
            f"VALUES {', '.join(['(?, ?)'] * len(spans))}", tuple(end for s in spans for end in s)
        )
        name = self._define(values, "low, high")
        join = f"SELECT document FROM {name} CROSS JOIN metadata"
        return _Sql(
            f"{join} WHERE field = ? AND kind = 'date' AND number >= low AND number < high",
            (field,),
        )

    def _fold(self, first: _Sql, chain: list[tuple[str, _Sql]]) -> _Sql:
        """Apply set operators from left to right, in statements of limited length."""
        for start in range(0, len(chain), _CHAIN):
            links = chain[start : start + _CHAIN]
            text = first.text + "".join(f" {operator} {sql.text}" for operator, sql in links)
            params = [param for _, sql in links for param in sql.params]
            name = self._define(_Sql(text, (*first.params, *params)), "document")
            first = _Sql(f"SELECT document FROM {name}")
        return first

    def _define(self, body: _Sql, columns: str) -> str:
        name = f"f{len(self.expressions)}"
        self.expressions.append(f"{name}({columns}) AS ({body.text})")
        self.params.extend(body.params)
        return name


def _rows(field: str, condition: _Sql | None = None) -> _Sql:
    select = "SELECT document FROM metadata WHERE field = ?"
    if condition is None:
        return _Sql(select, (field,))
    return _Sql(f"{select} AND {condition.text}", (field, *condition.params))


def _any(conditions: Sequence[_Sql]) -> _Sql:
    """Join by OR, in groups: SQLite limits the depth of an expression to 1,000."""
    if len(conditions) < 2:
        return conditions[0] if conditions else _Sql("0")
    if len(conditions) > _CHAIN:
        starts = range(0, len(conditions), _CHAIN)
        return _any([_any(conditions[start : start + _CHAIN]) for start in starts])
    text = " OR ".join(condition.text for condition in conditions)
    return _Sql(f"({text})", tuple(param for sql in conditions for param in sql.params))


def _inequalities(node: Comparison) -> list[_Sql]:
    """Say which rows of the field satisfy a comparison, besides those equal to its literals."""
    if node.op == "exists":
        return [_Sql("1")]
    if node.op == "contains" and isinstance(node.value, str):
        text = "kind IN ('string', 'date') AND instr(casefold(text), ?)"
        return [_Sql(text, (node.value.casefold(),))]
    if node.op in _EQUALITY:
        return []
    return [_ordered(node.op, reading) for reading in _meanings(node)]


def _meanings(node: Comparison) -> list[Reading]:
    """Read the literals, each kind of row that one compares with as a reading of its own."""
    readings = [read_literal(value) for value in elements(node.value)]
    periods = [Reading("date", r.span[0], r.span) for r in readings if r.span]
    return [reading._replace(span=None) for reading in readings if reading.kind != "date"] + periods


def _ordered(op: str, reading: Reading) -> _Sql:
    kind, value, span = reading
    if span:
        text, ends = _SPAN_SQL[op]
        return _Sql(f"kind = 'date' AND {text}", tuple(span[end] for end in ends))
    if isinstance(value, str):
        return _Sql(f"kind = '{kind}' AND text {op} ?", (value,))
    if abs(value) < _EXACT:
        return _Sql(f"kind = '{kind}' AND number {op} ?", (float(value),))
    tie = "number = ? AND integer_order(coalesce(text, ?), ?)"
    text = f"kind = 'number' AND (number {op[0]} ? OR {tie} {op} 0)"
    return _Sql(text, (float(value), *_tie(value)))


def _tie(value: float) -> tuple[float, str, str]:
    """Give the double of a large number, the double's digits, and the number's own."""
    double = float(value)
    return double, str(int(double)), str(int(value))


def _equal(readings: Sequence[Reading]) -> list[_Sql]:
    """Say which rows equal one of the texts, numbers and bools."""
    small, found = defaultdict[Kind, list[str | float]](list), list[_Sql]()
    for kind, value, _ in readings:
        if isinstance(value, str):
            small[kind].append(value)
        elif abs(value) < _EXACT:
            small[kind].append(float(value))
        else:
            text = "kind = 'number' AND number = ? AND coalesce(text, ?) = ?"
            found.append(_Sql(text, _tie(value)))
    for kind, values in small.items():
        column, marks = "text" if kind == "string" else "number", ", ".join("?" * len(values))
        found.append(_Sql(f"kind = '{kind}' AND {column} IN ({marks})", tuple(values)))
    return found


def _merged(spans: Iterable[Span]) -> list[Span]:
    """Merge spans that touch, in order.

    >>> _merged([(2, 3), (0, 1), (1, 2), (5, 6)])
    [(0, 3), (5, 6)]
    """
    merged: list[Span] = []
    for low, high in sorted(spans):
        if merged and low <= merged[-1][1]:
            low, last = merged.pop()
            high = max(high, last)
        merged.append((low, high))
    return merged
