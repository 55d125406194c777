"""Metadata and filters as engines can hold and compare them: texts to equal, numbers to bound.

``typed_payload`` spreads metadata over one key a field and kind, and ``predicate`` says a filter
over those keys with the same meaning as ``Filter.matches``, or not at all: the order of texts and
their substrings differ between engines. Field names travel in hexadecimal, so none can be read as
a path or an operator.
"""

import math
import sys
from collections.abc import Iterator
from typing import NamedTuple

from ...core.documents import Scalar, flatten_metadata
from ...core.filter_values import Span, elements, read_literal, typed_value
from ...core.filters import And, Comparison, Filter, Not, Or
from .base import Payload

EXACT = 2.0**53
"""Integers beyond are not all doubles."""
MAX_COMPARISONS = 50
"""A filter of more is sooner resolved to row ids than sent."""


class TypedPayload(NamedTuple):
    """A passage's metadata by key."""

    fields: list[str]
    """The keys that are there, and one for each field whatever it holds."""
    texts: dict[str, list[str]]
    numbers: dict[str, list[float]]


class Present(NamedTuple):
    """The key is among a payload's ``fields``."""

    key: str


class Among(NamedTuple):
    """One of the texts under the key is the text."""

    key: str
    text: str


class Between(NamedTuple):
    """One of the numbers under the key lies between two, ends included."""

    key: str
    low: float
    high: float


class AllOf(NamedTuple):
    """All parts hold."""

    parts: "tuple[Predicate, ...]"


class AnyOf(NamedTuple):
    """At least one of the parts holds."""

    parts: "tuple[Predicate, ...]"


class Negated(NamedTuple):
    """The part does not hold."""

    part: "Predicate"


Predicate = Present | Among | Between | AllOf | AnyOf | Negated


class _NotExact(Exception):
    """Part of a filter has no exact predicate."""


def typed_payload(metadata: Payload) -> TypedPayload:
    """Spread metadata over keys.

    >>> typed_payload({"a": ["x", 1, True], "b": []})
    TypedPayload(fields=['bool_61', 'field_61', 'field_62', 'number_61', 'string_61'],
                 texts={'string_61': ['x']}, numbers={'number_61': [1.0], 'bool_61': [1.0]})
    """
    texts: dict[str, list[str]] = {}
    numbers: dict[str, list[float]] = {}
    fields: set[str] = set()
    for field, value in flatten_metadata(metadata).items():
        fields.add(_key("field", field))
        for scalar in elements(value):
            kind, typed = typed_value(scalar)
            if isinstance(typed, str):
                texts.setdefault(_key(kind, field), []).append(typed)
            elif typed == typed:  # NaN compares with nothing
                numbers.setdefault(_key(kind, field), []).append(_double(typed))
    return TypedPayload(sorted({*fields, *texts, *numbers}), texts, numbers)


def predicate(where: Filter) -> Predicate | None:
    """Say a filter over the keys of ``typed_payload``, or None if that cannot be exact."""
    if sum(1 for _ in where.comparisons()) > MAX_COMPARISONS:
        return None
    try:
        return _predicate(where)
    except _NotExact:
        return None


def _predicate(where: Filter) -> Predicate:
    if isinstance(where, Not):
        return Negated(_predicate(where.inner))
    if isinstance(where, And | Or):
        parts = tuple(map(_predicate, where.operands()))
        return AllOf(parts) if isinstance(where, And) else AnyOf(parts)
    if not isinstance(where, Comparison):
        raise _NotExact
    present = Present(_key("field", where.field))
    if where.op == "exists":
        return present
    op = "=" if where.op in ("!=", "in", "contains") else where.op
    found = [
        atom
        for literal in elements(where.value)
        for atom in _atoms(where.field, op, literal, substring=where.op == "contains")
    ]
    if not found:
        raise _NotExact
    any_of = found[0] if len(found) == 1 else AnyOf(tuple(found))
    return AllOf((present, Negated(any_of))) if where.op == "!=" else any_of


def _atoms(field: str, op: str, literal: Scalar, *, substring: bool) -> Iterator[Predicate]:
    """Yield the conditions of which one must hold for a literal to be met."""
    reading = read_literal(literal)
    if isinstance(literal, str) and (substring or (reading.kind == "string" and op != "=")):
        raise _NotExact
    if reading.span is not None:
        yield Between(_key("date", field), *_dates(op, reading.span))
    if reading.kind == "string":
        yield Among(_key("string", field), str(reading.value))
    elif reading.kind != "date":
        if abs(reading.value) >= EXACT:  # type: ignore[arg-type]
            raise _NotExact
        yield Between(_key(reading.kind, field), *_numbers(op, float(reading.value)))


def _numbers(op: str, value: float) -> tuple[float, float]:
    below, above = math.nextafter(value, -math.inf), math.nextafter(value, math.inf)
    return {
        "=": (value, value),
        "<": (-math.inf, below),
        "<=": (-math.inf, value),
        ">": (above, math.inf),
        ">=": (value, math.inf),
    }[op]


def _dates(op: str, span: Span) -> tuple[float, float]:
    """Bound instants by a half-open span."""
    first, last = span[0], math.nextafter(span[1], -math.inf)
    return {
        "=": (first, last),
        "<": (-math.inf, math.nextafter(first, -math.inf)),
        "<=": (-math.inf, last),
        ">": (span[1], math.inf),
        ">=": (first, math.inf),
    }[op]


def _key(kind: str, field: str) -> str:
    return f"{kind}_{field.encode().hex()}"


def _double(number: float) -> float:
    """Bring a number into the range of finite doubles; beyond 2**53 no literal tells them apart."""
    largest = sys.float_info.max
    return float(max(-largest, min(largest, number)))
