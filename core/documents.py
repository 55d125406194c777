"""Document, Passage and Hit: what is indexed, what is ranked, what comes back.

A ``Document`` is what a user adds; its id is theirs, verbatim. It is cut into ``Passage``s, each a
character span of the document's text with the id ``doc#n``. A ``Hit`` is a ranked passage.
Documents are validated at the boundary; passages and hits are plain frozen records for hot loops.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field, field_validator

from .fields import FieldName, FieldSpan, check_field_names, field_values

Scalar = str | int | float | bool
MetadataValue = Scalar | list[Scalar]
Metadata = dict[str, MetadataValue]


class Document(BaseModel):
    """One document of a corpus, as its owner names it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(min_length=1, max_length=1024)
    """The owner's identifier (BEIR ``_id``), kept verbatim."""
    title: str = ""
    text: str = ""
    url: str | None = None
    """Where a reader finds the original; shown with citations, never fetched on its own."""
    metadata: Metadata = Field(default_factory=dict[str, MetadataValue])
    """Flat fields to filter by: strings, numbers, booleans, ISO dates, or lists of these."""
    fields: dict[FieldName, str] = Field(default_factory=dict[str, str])
    """Named texts that are searched beside the body, each with a weight of its own: tags, authors,
    a transcript. A list of texts is joined; what is empty is left out."""

    @field_validator("fields", mode="before")
    @classmethod
    def _join(cls, value: object) -> object:
        if isinstance(value, Mapping):
            return field_values(cast(Mapping[str, object], value))
        return value

    @field_validator("fields")
    @classmethod
    def _named(cls, value: dict[str, str]) -> dict[str, str]:
        check_field_names(list(value))
        return value

    @field_validator("metadata", mode="before")
    @classmethod
    def _flatten(cls, value: object) -> object:
        if isinstance(value, Mapping):
            return flatten_metadata(cast(Mapping[str, Any], value))
        return value

    @property
    def content_hash(self) -> str:
        """Hash of everything that indexing depends on; equal hashes need no work."""
        parts: list[object] = [self.title, self.text, self.url, self.metadata]
        if self.fields:
            parts.append(list(self.fields.items()))  # their order is that of the text
        payload = json.dumps(parts, sort_keys=True, ensure_ascii=True)
        return hashlib.blake2b(payload.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Passage:
    """A character span of one document: the unit of retrieval."""

    id: str
    """``doc#n``, n counting from 0."""
    doc_id: str
    start: int
    """First character in the document's text, which its fields are a part of."""
    end: int
    """One past the last character in the document's text."""
    title: str
    text: str
    url: str | None = None
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict[str, MetadataValue])
    fields: tuple[FieldSpan, ...] = ()
    """What the text has of each field, if the document has fields; they partition it."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage as one retriever ranked it."""

    passage: Passage
    score: float
    rank: int
    """Counts from 1."""
    retriever: str
    field: str | None = None
    """The field that matched best, ``title`` and ``text`` among them; None where the document has
    no fields, or a vector of the whole passage cannot tell."""

    @property
    def doc_id(self) -> str:
        """The document of the passage."""
        return self.passage.doc_id

    def to_json(self) -> dict[str, Any]:
        """All a program needs to show or log the hit."""
        passage = self.passage
        return {
            "passage_id": passage.id,
            "doc_id": passage.doc_id,
            "rank": self.rank,
            "score": self.score,
            "retriever": self.retriever,
            "field": self.field,
            "title": passage.title,
            "text": passage.text,
            "start": passage.start,
            "end": passage.end,
            "url": passage.url,
            "metadata": dict(passage.metadata),
        }


def passage_id(doc_id: str, n: int) -> str:
    """Build the id of a document's n-th passage.

    >>> passage_id("a#b", 3)
    'a#b#3'
    """
    return f"{doc_id}#{n}"


def split_passage_id(value: str) -> tuple[str, int | None]:
    """Split ``doc#n`` into the document id and n, or ``(value, None)`` for a bare document id.

    >>> split_passage_id("a#b#3"), split_passage_id("plain")
    (('a#b', 3), ('plain', None))
    """
    doc_id, _, n = value.rpartition("#")
    return (doc_id, int(n)) if doc_id and n.isascii() and n.isdigit() else (value, None)


def flatten_metadata(value: Mapping[str, Any]) -> Metadata:
    """Flatten nested metadata to dotted fields; nulls vanish, other nesting becomes JSON text.

    >>> flatten_metadata({"a": {"b": 1}, "c": None, "d": ["x", {"y": 2}]})
    {'a.b': 1, 'd': ['x', '{"y": 2}']}
    """
    flat: Metadata = {}
    for key, item in value.items():
        if isinstance(item, Mapping):
            for inner, leaf in flatten_metadata(cast(Mapping[str, Any], item)).items():
                flat[f"{key}.{inner}"] = leaf
        elif isinstance(item, list | tuple | set):
            elements = cast(Iterable[object], item)
            flat[str(key)] = [_scalar(element) for element in elements if element is not None]
        elif item is not None:
            flat[str(key)] = _scalar(item)
    return flat


def _scalar(value: object) -> Scalar:
    if isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, datetime | date):
        return value.isoformat()
    return json.dumps(value, ensure_ascii=False, default=str)


def utc_now() -> str:
    """Return this moment as an ISO string in UTC with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
