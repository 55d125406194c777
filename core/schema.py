"""MetadataSchema: which fields a corpus has, what they hold, and whether a filter makes sense.

A misspelt field or text against a numeric field would match nothing and look like an empty corpus,
so ``check`` refuses it and says what is valid, in words a model can act on.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, NonNegativeInt

from .documents import Scalar, flatten_metadata
from .errors import FilterError
from .filter_parser import field_text, value_text
from .filter_values import Kind, elements, read_literal, typed_value
from .filters import Comparison, Filter

MAX_EXAMPLES = 5

_EXAMPLE_LENGTH = 60
_LISTED = 30
"""Field names named in one message."""


def _sorted_kinds(kinds: tuple[Kind, ...]) -> tuple[Kind, ...]:
    return tuple(sorted(set(kinds)))


class FieldInfo(BaseModel):
    """What one metadata field holds over the corpus."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kinds: Annotated[tuple[Kind, ...], AfterValidator(_sorted_kinds)]
    """The kinds of its values, sorted; none if it only ever is an empty list."""
    documents: NonNegativeInt
    """How many documents have the field."""
    examples: Annotated[tuple[str, ...], Field(max_length=MAX_EXAMPLES)] = ()
    """Some of its values, verbatim; long texts are left out."""

    def describe(self) -> str:
        """Say it in one line.

        >>> FieldInfo(kinds=("number",), documents=2, examples=("1999", "2023")).describe()
        'number, 2 documents, such as 1999, 2023'
        """
        count = f"{self.documents} document{'' if self.documents == 1 else 's'}"
        return f"{' or '.join(self.kinds) or 'empty list'}, {count}{self.such_as()}"

    def such_as(self) -> str:
        """Give the examples as a filter writes them.

        >>> FieldInfo(kinds=("string",), documents=1, examples=("BBC",)).such_as()
        ", such as 'BBC'"
        """
        only_text = self.kinds == ("string",)
        written = (value_text(text) if only_text else text for text in self.examples)
        return f", such as {', '.join(written)}" if self.examples else ""


class MetadataSchema(BaseModel):
    """The metadata fields of a corpus.

    >>> schema = MetadataSchema.of([{"author": "Ann", "year": 2023}])
    >>> schema.check(Comparison(field="autor", op="=", value="Ann"))
    Traceback (most recent call last):
    retrail.core.errors.FilterError: unknown field 'autor', did you mean 'author'?: valid fields are
    'author', 'year'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    fields: dict[str, FieldInfo] = Field(default_factory=dict[str, FieldInfo])

    @classmethod
    def of(cls, documents: Iterable[Mapping[str, Any]]) -> Self:
        """Take stock of the metadata of documents."""
        tallies: dict[str, _Tally] = {}
        for metadata in documents:
            for name, value in flatten_metadata(metadata).items():
                tallies.setdefault(name, _Tally()).add(elements(value))
        return cls(fields={name: tallies[name].info() for name in sorted(tallies)})

    def check(self, filter: Filter) -> None:
        """Refuse a filter that names an unknown field or compares with what can never match.

        Raises:
            FilterError: With the valid fields, or the kinds that the field holds.
        """
        for comparison in filter.comparisons():
            info = self.fields.get(comparison.field)
            if info is None:
                raise self._unknown(comparison.field)
            if comparison.op != "exists" and info.kinds:
                _check_literals(comparison, info)

    def _unknown(self, name: str) -> FilterError:
        if not self.fields:
            message = f"unknown field {name!r}, the corpus has no metadata"
            return FilterError(message, fix="search without a filter")
        lowered = {known.lower(): known for known in self.fields}
        close = [lowered[match] for match in get_close_matches(name.lower(), lowered, n=1)]
        hint = f", did you mean {close[0]!r}?" if close else ""
        names = [*close, *(known for known in self.fields if known not in close)]
        listed = ", ".join(repr(known) for known in sorted(names[:_LISTED]))
        more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        return FilterError(f"unknown field {name!r}{hint}", fix=f"valid fields are {listed}{more}")

    def describe(self) -> str:
        """List the fields in compact lines, for a prompt.

        >>> print(MetadataSchema.of([{"year": 2023, "tag": ["a", "b"]}]).describe())
        tag: string, 1 document, such as 'a', 'b'
        year: number, 1 document, such as 2023
        """
        return "\n".join(
            f"{field_text(name)}: {info.describe()}" for name, info in self.fields.items()
        )


def _check_literals(comparison: Comparison, info: FieldInfo) -> None:
    for literal in elements(comparison.value):
        if set(_matching_kinds(comparison.op, literal)).isdisjoint(info.kinds):
            kinds = " or ".join(info.kinds)
            raise FilterError(
                f"the field {comparison.field!r} holds {kinds} values, "
                f"which {comparison.op} {value_text(literal)} can never match",
                fix=f"compare with a {kinds}{info.such_as()}",
            )


def _matching_kinds(op: str, literal: Scalar) -> Iterator[Kind]:
    """Tell which kinds of metadata values a literal can match."""
    reading = read_literal(literal)
    yield reading.kind
    if reading.span:
        yield "date"
    if op == "contains" and isinstance(literal, str):
        yield from ("string", "date")


@dataclass(slots=True)
class _Tally:
    """Counts of one field while documents stream by."""

    documents: int = 0
    kinds: set[Kind] = field(default_factory=set[Kind])
    examples: dict[str, None] = field(default_factory=dict[str, None])

    def add(self, values: Iterable[Scalar]) -> None:
        self.documents += 1
        for value in values:
            self.kinds.add(typed_value(value).kind)
            text = value if isinstance(value, str) else value_text(value)
            if len(self.examples) < MAX_EXAMPLES and len(text) <= _EXAMPLE_LENGTH:
                self.examples[text] = None

    def info(self) -> FieldInfo:
        return FieldInfo(
            kinds=tuple(self.kinds), documents=self.documents, examples=tuple(self.examples)
        )
