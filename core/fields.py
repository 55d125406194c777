"""Fields: named parts of a document, each a span of its text.

A document's text, as it is stored, cut and cited, is its body and then each field on lines of its
own. The spans partition it, so whatever knows nothing of fields works on them as on any text; what
does know scores tokens by field, as CLaMR does by modality (arXiv 2506.06144).
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, NamedTuple, cast

from pydantic import Field, StringConstraints

FieldName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
FieldWeight = Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]

TITLE = "title"
BODY = "text"
"""The name of what stands before the other fields."""

MAX_FIELDS = 100
"""Of one document."""


class FieldSpan(NamedTuple):
    """The place of a field, with the line end behind it."""

    name: str
    start: int
    end: int


def field_values(given: Mapping[str, object]) -> dict[str, object]:
    """Join lists of texts and leave out what is empty.

    >>> field_values({"tags": ["red", "blue"], "notes": " ", "brand": "Acme", "size": None})
    {'tags': 'red, blue', 'brand': 'Acme'}
    """
    values = {name: _joined(value) for name, value in given.items()}
    return {
        name: value
        for name, value in values.items()
        if value is not None and not (isinstance(value, str) and not value.strip())
    }


def _joined(value: object) -> object:
    if not isinstance(value, list | tuple):
        return value
    parts = cast(Sequence[object], value)
    texts = [part for part in parts if isinstance(part, str)]
    return ", ".join(texts) if len(texts) == len(parts) else parts


def check_field_names(names: Sequence[str]) -> None:
    """Refuse names with another meaning, and more than a document may have (ValueError)."""
    for name in names:
        if name in (TITLE, BODY):
            raise ValueError(f"a field cannot be called {name!r}: that is a part of every document")
    if len(names) > MAX_FIELDS:
        raise ValueError(f"there are {len(names)} fields, at most {MAX_FIELDS} are kept apart")


def join_fields(body: str, fields: Mapping[str, str]) -> tuple[str, tuple[FieldSpan, ...]]:
    r"""Lay a document out as one text; without fields it is the body, and has no spans.

    >>> text, spans = join_fields("A chair.", {"tags": "red"})
    >>> text, [tuple(span) for span in spans]
    ('A chair.\nred', [('text', 0, 9), ('tags', 9, 12)])
    """
    if not fields:
        return body, ()
    parts = {BODY: body, **fields} if body else dict(fields)
    spans: list[FieldSpan] = []
    start = 0
    for n, (name, value) in enumerate(parts.items(), 1):
        end = start + len(value) + (n < len(parts))
        spans.append(FieldSpan(name, start, end))
        start = end
    return "\n".join(parts.values()), tuple(spans)


def split_fields(text: str, spans: Sequence[FieldSpan]) -> tuple[str, dict[str, str]]:
    """Undo :func:`join_fields`."""
    if not spans:
        return text, {}
    parts = {name: text[start : end - 1] for name, start, end in spans[:-1]}
    parts[spans[-1].name] = text[spans[-1].start :]
    return parts.pop(BODY, ""), parts


def clip_fields(spans: Sequence[FieldSpan], start: int, end: int) -> tuple[FieldSpan, ...]:
    """Return what a piece of the text has of each field, with places in the piece."""
    return tuple(
        FieldSpan(span.name, max(span.start, start) - start, min(span.end, end) - start)
        for span in spans
        if span.start < end and start < span.end
    )


def part_texts(title: str, text: str, fields: Sequence[FieldSpan]) -> dict[str, str]:
    r"""Return what a passage says by field, the title and the body among them.

    >>> part_texts("Chair", "Oak.\nred", [FieldSpan("text", 0, 5), FieldSpan("tags", 5, 8)])
    {'title': 'Chair', 'text': 'Oak.\n', 'tags': 'red'}
    """
    parts = {span.name: text[span.start : span.end] for span in fields} or {BODY: text}
    return {TITLE: title, **parts} if title else parts
