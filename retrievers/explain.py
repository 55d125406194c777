"""Explain: which token of a query met which token of a passage, and how much each counted.

The scores are those of late retrieval, so that they add up to the late score of a hit. Where fewer
token vectors are stored than there are tokens, the passage is encoded again and scored unreduced.
Positions are characters of the passage's title and text, as they are stored.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from ..core.documents import Passage
from ..core.errors import ConfigError
from .encoder import Vectors
from .similarity_pooling import Pooling, pool
from .staging import encoder_text
from .token_fields import FieldNumbers
from .token_spans import TokenSpan, words_of


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TextSpan(_Record):
    """Characters of a query, a title or a text."""

    field: Literal["query", "title", "text", "added"]
    """``added``: a token of the encoder's own, such as [CLS]; it has no characters."""
    start: int = Field(ge=0)
    end: int = Field(ge=0)
    text: str


class Match(_Record):
    """A query token and the passage token it is most like."""

    query: TextSpan
    passage: TextSpan
    score: float
    """What the query token adds to the late score."""
    name: str | None = None
    """Of a document with fields: the name of the one that the passage token stands in."""


class Highlight(_Record):
    """Neighbouring words of a passage that query tokens met."""

    field: Literal["title", "text"]
    start: int = Field(ge=0)
    end: int = Field(ge=0)
    weight: float = Field(ge=0, le=1)
    """The score of its best word, in proportion to the passage's best word."""


class Explanation(_Record):
    """Why a passage has its late score."""

    query: str
    passage_id: str
    score: float
    """The late score: the matches' scores and ``added``."""
    added: float
    """What the tokens that the encoder adds to the query count."""
    stored: bool
    """Whether the stored vectors were scored; else the passage was encoded again, unreduced."""
    matches: tuple[Match, ...]
    """One for each token of the query, in order."""
    highlights: tuple[Highlight, ...]
    field: str | None = None
    """Of a document with fields: the one that gives most of the score."""


class Tokens(NamedTuple):
    """A text's tokens: where they are, and the text."""

    spans: Sequence[TokenSpan]
    text: str


def explain(
    query: Tokens, passage: Passage, spans: Sequence[TokenSpan], similarities: Vectors, *,
    pooling: Pooling, stored: bool, fields: FieldNumbers | None = None,
) -> Explanation:  # fmt: skip
    """Put similarities of tokens into words.

    Args:
        query: The query's tokens.
        passage: What was scored.
        spans: Of the tokens of what the encoder reads of it.
        similarities: Shape ``(passage tokens, query tokens)``.
        pooling: Of the late retriever.
        stored: Whether the similarities are those of stored vectors.
        fields: Of the passage's tokens, if the document has fields.

    Raises:
        ConfigError: There is not one vector for each token.
    """
    if similarities.shape != (len(spans), len(query.spans)):
        raise ConfigError(
            f"passage {passage.id!r} has other token vectors than its encoder's tokenizer finds",
            fix="retrail doctor --rebuild encodes the corpus again",
        )
    placed = [_place(span, passage) for span in spans]
    best, scores = similarities.argmax(axis=0).tolist(), pool(similarities, pooling).tolist()
    matches = [
        (
            at,
            Match(
                query=_asked(span, query.text),
                passage=placed[at],
                score=score,
                name=fields and fields.of(at),
            ),
        )
        for span, at, score in zip(query.spans, best, scores, strict=True)
        if span.word is not None
    ]
    shown = sum(match.score for _, match in matches)
    return Explanation(
        query=query.text,
        passage_id=passage.id,
        score=sum(scores),
        added=sum(scores) - shown,
        stored=stored,
        matches=tuple(match for _, match in matches),
        highlights=tuple(
            _highlights(spans, placed, [(at, match.score) for at, match in matches], passage)
        ),
        field=fields and fields.best(similarities, pooling),
    )


def _asked(span: TokenSpan, text: str) -> TextSpan:
    return TextSpan(field="query", start=span.start, end=span.end, text=text[span.start : span.end])


def _place(span: TokenSpan, passage: Passage) -> TextSpan:
    """Find a token of what the encoder reads in the passage's title or text."""
    if span.word is None:
        return TextSpan(field="added", start=0, end=0, text="")
    read = encoder_text(passage.title, passage.text)
    text = read[span.start : span.end]
    body = len(passage.title) + 1 if passage.title else 0
    if span.start < body:
        return TextSpan(field="title", start=span.start, end=span.end, text=text)
    shift = len(passage.text) - len(passage.text.lstrip()) - body
    return TextSpan(field="text", start=span.start + shift, end=span.end + shift, text=text)


def _highlights(
    spans: Sequence[TokenSpan],
    placed: Sequence[TextSpan],
    found: Sequence[tuple[int, float]],
    passage: Passage,
) -> Iterable[Highlight]:
    """Sum what was found by words, and join words with nothing but space between them."""
    runs: list[Highlight] = []
    met = [
        (word, sum(max(score, 0.0) for at, score in found if word.start <= at < word.stop))
        for word in words_of(spans)
        if spans[word.start].word is not None
    ]
    best = max((total for _, total in met), default=0.0)
    for word, total in met:
        first, last = placed[word.start], placed[word.stop - 1]
        if total > 0 and first.field in ("title", "text"):
            weight = total / best
            runs.append(
                Highlight(field=first.field, start=first.start, end=last.end, weight=weight)
            )
    return _joined(runs, passage)


def _joined(runs: Sequence[Highlight], passage: Passage) -> Iterable[Highlight]:
    joined = list(runs[:1])
    for _, run in pairwise(runs):
        last = joined[-1]
        source = passage.title if run.field == "title" else passage.text
        if run.field == last.field and not source[last.end : run.start].strip():
            weight = max(last.weight, run.weight)
            joined[-1] = last.model_copy(update={"end": run.end, "weight": weight})
        else:
            joined.append(run)
    return joined
