"""Filter: one typed predicate language over document metadata, the same in every retriever.

``Filter.matches`` is the reference; whatever compiles a filter must give the same documents.

* A comparison on a missing field is false, ``!=`` too; ``exists`` is presence (null is absence, an
  empty list is presence). ``not`` is plain negation, so ``not in`` holds where the field is absent.
* On a list, a comparison is true if any element satisfies it; ``!=`` if the field exists and no
  element is equal. ``in`` is equality with any of its values. A list of one is as good as its
  element.
* ``contains``: an element is equal, or is text that has the value as a case-insensitive substring.
* Text compares case-sensitively, ``<`` and ``>`` by code point. Numbers compare exactly, integers
  with floats. A bool is not a number. Values of different kinds are neither equal nor ordered.
* Metadata text that is an ISO 8601 date or datetime (naive means UTC) is a date, an instant in UTC;
  it is text for ``contains`` only. A literal that is a date compares with dates alone. A literal
  day stands for the whole day [lo, hi): ``=`` is within, ``<`` before lo, ``<=`` before hi, ``>``
  at or after hi, ``>=`` at or after lo. The literals ``YYYY`` (text or integer, 1000 to 2999) and
  ``YYYY-MM`` stand for a year and a month against dates, and for themselves against the rest.

A filter has at most 50 levels, 2,000 comparisons and 5,000 literals: every engine can run it.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from reprlib import repr as short
from typing import Any, ClassVar, Literal, Self, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from .documents import Metadata, Scalar, flatten_metadata
from .errors import FilterError
from .filter_json import MAX_DEPTH, explicit, read_json
from .filter_parser import field_text, read_text, value_text
from .filter_values import canonical_literal, elements, encodable, relation

MAX_COMPARISONS = 2_000
MAX_LITERALS = 5_000

Op = Literal["=", "!=", "<", "<=", ">", ">=", "in", "contains", "exists"]

_PLACES = {"=": (0,), "<": (-1,), "<=": (-1, 0), ">": (1,), ">=": (0, 1)}
_DESCRIPTION = (
    "Metadata filter: text such as \"date >= 2023-10-01 and source = 'BBC'\", or JSON such as "
    '{"source": "BBC", "year": {">=": 2020}}'
)


class Filter(ABC):
    """A predicate over metadata: ``Comparison``, ``And``, ``Or`` or ``Not``; combines by ``& | ~``.

    As the type of a pydantic field it takes what ``parse_filter`` takes and dumps ``to_json()``.
    """

    __slots__ = ()

    def matches(self, metadata: Mapping[str, Any]) -> bool:
        """Tell whether a document with this metadata passes."""
        return self.holds(flatten_metadata(metadata))

    @abstractmethod
    def holds(self, metadata: Metadata) -> bool:
        """Tell the same of metadata known to be flat, as documents keep it."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Give the explicit JSON form, which ``parse_filter`` reads back to an equal filter."""

    @abstractmethod
    def operands(self) -> "tuple[Filter, ...]":
        """Give the filters that this one joins or negates; a comparison has none."""

    def comparisons(self) -> "Iterator[Comparison]":
        """Walk over all comparisons, from left to right."""
        for operand in self.operands():
            yield from operand.comparisons()

    def depth(self) -> int:
        """Count the levels of nesting; a comparison has one."""
        return 1 + max((operand.depth() for operand in self.operands()), default=0)

    def __and__(self, other: "Filter") -> "And":
        """Both hold."""
        return And(all=(*_flat(And, self), *_flat(And, other)))

    def __or__(self, other: "Filter") -> "Or":
        """At least one holds."""
        return Or(any=(*_flat(Or, self), *_flat(Or, other)))

    def __invert__(self) -> "Not":
        """It does not hold."""
        return Not(inner=self)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate a pydantic field of this type like ``parse_filter``."""
        dump = core_schema.plain_serializer_function_ser_schema(cls._dumped)
        return core_schema.no_info_plain_validator_function(cls._given, serialization=dump)

    @staticmethod
    def _dumped(found: "Filter") -> dict[str, Any]:
        return found.to_json()

    @staticmethod
    def _given(source: "str | Mapping[str, Any] | Filter") -> "Filter":
        found = parse_filter(source)
        if found is None:
            raise FilterError("the filter is empty", fix="leave it out or give a condition")
        return found

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Describe both forms to whoever fills in the field."""
        return {"anyOf": [{"type": "string"}, {"type": "object"}], "description": _DESCRIPTION}


class _Node(BaseModel, Filter):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.depth() > MAX_DEPTH:
            raise FilterError(f"the filter nests deeper than {MAX_DEPTH} levels", fix="flatten it")
        sizes = [len(elements(comparison.value)) for comparison in self.comparisons()]
        for count, limit, what in (
            (len(sizes), MAX_COMPARISONS, "comparisons"),
            (sum(sizes), MAX_LITERALS, "literals"),
        ):
            if count > limit:
                fix = f"at most {limit} are allowed, split it"
                raise FilterError(f"the filter has {count} {what}", fix=fix)
        return self

    @model_serializer(mode="plain")
    def _dump(self) -> dict[str, Any]:
        return self.to_json()


class Comparison(_Node):
    """One field against one literal.

    >>> Comparison(field="date", op=">=", value="2023-10-01").matches({"date": "2024-01-31"})
    True
    """

    field: str
    op: Op
    value: Scalar | tuple[Scalar, ...]
    """A tuple for ``in``, always true for ``exists``; integral floats are kept as integers."""

    @model_validator(mode="before")
    @classmethod
    def _exists_needs_no_value(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and cast(Mapping[str, Any], data).get("op") == "exists":
            return {"value": True, **cast(Mapping[str, Any], data)}
        return cast(Any, data)

    @field_validator("field", mode="before")
    @classmethod
    def _named(cls, field: Any) -> str:
        if not isinstance(field, str) or not field:
            raise FilterError(f"{short(field)} is not a field name", fix="name a metadata field")
        return encodable(field)

    @field_validator("value", mode="before")
    @classmethod
    def _canonical(cls, value: Any, info: ValidationInfo) -> Scalar | tuple[Scalar, ...]:
        op = info.data.get("op")
        if op == "exists" and value is not True:
            raise FilterError(f"'exists' takes no value, found {short(value)}", fix="drop it")
        if op != "in" and isinstance(value, list | tuple):
            raise FilterError(f"{op!r} takes one value, found a list", fix="use 'in'")
        if op != "in":
            return canonical_literal(value)
        if not isinstance(value, list | tuple):
            raise FilterError(f"'in' takes a list, found {short(value)}", fix="write ['a', 'b']")
        return tuple(map(canonical_literal, cast(Sequence[Any], value)))

    def holds(self, metadata: Metadata) -> bool:
        """Compare the field's elements with the literal."""
        found = metadata.get(self.field)
        if found is None or self.op == "exists":
            return found is not None
        if self.op == "!=":
            return not any(relation(e, v) == 0 for e in elements(found) for v in self._literals())
        return any(self._element_holds(element) for element in elements(found))

    def _literals(self) -> Sequence[Scalar]:
        return elements(self.value)

    def _element_holds(self, element: Scalar) -> bool:
        places = _PLACES.get(self.op, (0,))
        if any(relation(element, literal) in places for literal in self._literals()):
            return True
        return self.op == "contains" and _has_substring(element, self.value)

    def to_json(self) -> dict[str, Any]:
        """Give field, op and value."""
        value = list(self.value) if isinstance(self.value, tuple) else self.value
        return {"field": self.field, "op": self.op, "value": value}

    def operands(self) -> tuple[Filter, ...]:
        """None."""
        return ()

    def comparisons(self) -> "Iterator[Comparison]":
        """Itself."""
        yield self

    def __str__(self) -> str:
        field = field_text(self.field)
        if self.op == "exists":
            return f"{field} exists"
        texts = ", ".join(map(value_text, self._literals()))
        return f"{field} in ({texts})" if self.op == "in" else f"{field} {self.op} {texts}"

    def _key(self) -> tuple[object, ...]:
        # True == 1 in Python, but here they are different literals.
        return self.field, self.op, tuple((isinstance(v, bool), v) for v in self._literals())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Comparison) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())


class _Junction(_Node):
    word: ClassVar[str]

    @model_validator(mode="after")
    def _joins_several(self) -> Self:
        if len(self.operands()) < 2:
            message = f"{self.word!r} joins {len(self.operands())} filters"
            raise FilterError(message, fix="give it two or more")
        return self

    def to_json(self) -> dict[str, Any]:
        """Give the list of parts under the word."""
        return {self.word: [part.to_json() for part in self.operands()]}

    def __str__(self) -> str:
        return f" {self.word} ".join(
            f"({part})" if isinstance(part, _Junction) else str(part) for part in self.operands()
        )


class And(_Junction):
    """All of two or more filters hold."""

    word = "and"
    all: tuple[Filter, ...]

    def holds(self, metadata: Metadata) -> bool:
        """All hold."""
        return all(part.holds(metadata) for part in self.all)

    def operands(self) -> tuple[Filter, ...]:
        """All parts."""
        return self.all


class Or(_Junction):
    """At least one of two or more filters holds."""

    word = "or"
    any: tuple[Filter, ...]

    def holds(self, metadata: Metadata) -> bool:
        """At least one holds."""
        return any(part.holds(metadata) for part in self.any)

    def operands(self) -> tuple[Filter, ...]:
        """All parts."""
        return self.any


class Not(_Node):
    """The inner filter does not hold."""

    inner: Filter

    def holds(self, metadata: Metadata) -> bool:
        """Plain negation."""
        return not self.inner.holds(metadata)

    def to_json(self) -> dict[str, Any]:
        """Give the inner filter under ``not``."""
        return {"not": self.inner.to_json()}

    def operands(self) -> tuple[Filter, ...]:
        """The inner filter."""
        return (self.inner,)

    def __str__(self) -> str:
        return f"not ({self.inner})"


def parse_filter(source: str | Mapping[str, Any] | Filter | None) -> Filter | None:
    """Read a filter from text or JSON; None, blank text and ``{}`` mean no filter.

    Args:
        source: Text such as ``date >= 2023-10-01 and source = 'BBC'``, JSON as text or mapping
            such as ``{"source": "BBC", "year": {">=": 2020}}``, or a filter, returned as it is.

    Raises:
        FilterError: With what was found, where, and what to write instead.

    >>> str(parse_filter({"source": "BBC", "year": {">=": 2020}}))
    "source = 'BBC' and year >= 2020"
    """
    if source is None or isinstance(source, Filter):
        return source
    text = encodable(source).strip() if isinstance(source, str) else None
    if text in ("", "{}") or source == {}:
        return None
    if text is None:
        return _build(explicit(source))
    return _build(read_json(text) if text.startswith("{") else read_text(str(source)))


def _build(node: dict[str, Any]) -> Filter:
    """Build the nodes of an explicit JSON filter."""
    if "and" in node:
        return And(all=tuple(map(_build, node["and"])))
    if "or" in node:
        return Or(any=tuple(map(_build, node["or"])))
    return Not(inner=_build(node["not"])) if "not" in node else Comparison(**node)


def _has_substring(element: Any, value: Any) -> bool:
    texts = isinstance(element, str) and isinstance(value, str)
    return texts and value.casefold() in element.casefold()


def _flat(kind: type[And] | type[Or], operand: Filter) -> tuple[Filter, ...]:
    return operand.operands() if isinstance(operand, kind) else (operand,)
