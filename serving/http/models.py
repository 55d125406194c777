"""The own API's requests: what a caller may send, checked before anything happens.

Strict on purpose: a number in quotes or a misspelt field is told, not guessed at.
"""

import json
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ...core.documents import Document
from ...core.settings import Budget
from ...core.trajectories import Vote
from ...retrievers.index import Retriever
from ...retrievers.searcher import MAX_QUERY_CHARACTERS
from ...retrievers.snapshot import By

MAX_HITS = 1000
MAX_DOCUMENTS = 10_000
"""Documents of one request."""

Text = Annotated[str, Field(max_length=MAX_QUERY_CHARACTERS)]


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class SearchRequest(_Request):
    """A search."""

    query: Text = ""
    """May be empty for ``filtered``, which then lists."""
    by: Retriever = "hybrid"
    k: int = Field(default=10, ge=1, le=MAX_HITS)
    """Documents wanted."""
    where: str | dict[str, Any] | None = None
    """A filter on metadata, as text or as JSON."""
    rank_by: By = "hybrid"
    """Ranks for ``filtered``."""
    order_by: str | None = None
    """Lists for ``filtered`` by this field; ``-field`` for descending."""


class AskRequest(_Request):
    """A question."""

    question: Text = Field(min_length=1)
    planner: str = "rules"
    """One of those that ``/api/health`` names."""
    budget: Budget | None = None
    """Lowers the workspace's limits; it cannot raise them."""
    record: bool = True
    """False leaves no trace of the run; true is up to the workspace."""
    stream: bool = True
    """True for server-sent events, false for one JSON document in the end."""


class NewDocument(Document):
    """A document to add, or to put in the place of the one that has its id."""

    model_config = ConfigDict(allow_inf_nan=False)

    id: str = Field(default="", max_length=1024)
    """Its owner's name for it; without one it is named after its content."""

    @field_validator("id", "title", "text", "url", "fields")
    @classmethod
    def _no_nul(cls, value: str | dict[str, str] | None) -> str | dict[str, str] | None:
        texts = value.values() if isinstance(value, dict) else [value or ""]
        if any("\0" in text for text in texts):
            raise ValueError("there is a NUL character, the mark of binary data")
        return value

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.title.strip() and not self.text.strip() and not self.fields:
            raise ValueError("there is neither title nor text")
        try:
            json.dumps(self.metadata, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError("the metadata hold an unpaired surrogate") from error
        return self

    def named(self) -> Document:
        """Return it under its id."""
        return Document.model_validate(self.model_dump() | {"id": self.id or self.content_hash})


class AddRequest(_Request):
    """Documents to add or update."""

    documents: list[NewDocument] = Field(min_length=1, max_length=MAX_DOCUMENTS)


class FeedbackRequest(_Request):
    """What a person says of a run."""

    trajectory_id: str = Field(max_length=200)
    passage_id: str | None = Field(default=None, max_length=1100)
    """A passage that the run saw; none for its answer as a whole."""
    vote: Vote
    """``none`` takes back an earlier vote on the same."""
    comment: str | None = Field(default=None, max_length=4000)


class PromoteRequest(_Request):
    """A version to serve."""

    number: int = Field(ge=0)
    """0 is the encoder that the settings name."""
