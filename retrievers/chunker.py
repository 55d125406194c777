"""Cut a document into passages between sentences, each a character span.

Spans partition the text: they are contiguous, in order, and joined they give the document back, so
the corpus stores passages only. Long input is split as a stream of windows, never all at once.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from sentencex.sentencex import get_sentence_boundaries

from .scripts import CHARACTERS

_WORD = re.compile(rf"[{CHARACTERS}]|[^\W{CHARACTERS}]{{1,32}}|[^\w\s]")
"""A word, a mark, or a character of a script without spaces; a run of letters without end counts as
several, so that it can be cut."""
_WINDOW = 200_000
"""Characters given to the sentence splitter at a time."""


class Span(NamedTuple):
    """Half-open character range."""

    start: int
    end: int


def sentence_spans(text: str, language: str = "en") -> Iterator[Span]:
    """Yield the sentences of a text as contiguous spans.

    >>> text = "Dr. Smith met Amy. They left."
    >>> [text[start:end] for start, end in sentence_spans(text)]
    ['Dr. Smith met Amy. ', 'They left.']
    """
    start = end = 0
    blank = True
    for window in _windows(text):
        for boundary in get_sentence_boundaries(language, text[window.start : window.end]):
            seen, end = end, window.start + boundary["end_index"]
            blank = blank and not text[seen:end].strip()
            if not blank:
                yield Span(start, end)
                start, blank = end, True
        if start < window.end:
            yield Span(start, window.end)
        start, end, blank = window.end, window.end, True


def chunk(text: str, *, tokens: int, language: str = "en") -> Iterator[Span]:
    """Yield spans of about ``tokens`` words, whole sentences where sentences are short enough.

    Args:
        text: The document's text; empty text gives one empty span.
        tokens: Words and punctuation marks a span aims at; 0 keeps the text whole.
        language: ISO code for the sentence splitter.

    >>> list(chunk("One two. Three four. Five six.", tokens=6))
    [Span(start=0, end=21), Span(start=21, end=30)]
    """
    if tokens == 0 or len(text) <= tokens:
        yield Span(0, len(text))
        return
    start, size = 0, 0
    for sentence in sentence_spans(text, language):
        for piece in _pieces(text, sentence, tokens):
            length = _length(text, piece)
            if size and size + length > tokens:
                yield Span(start, piece.start)
                start, size = piece.start, 0
            size += length
    if start < len(text):
        yield Span(start, len(text))


def chunk_parts(
    text: str, starts: Sequence[int], *, tokens: int, language: str = "en"
) -> Iterator[Span]:
    """Cut a text that has parts: a part is divided only where it is longer than a span.

    Neighbours that fit together make one span, so that a small document is one whatever it has.

    Args:
        text: The document's text.
        starts: Where its parts begin, the first at 0; none for a text without parts.
        tokens: As for :func:`chunk`.
        language: As for :func:`chunk`.
    """
    if not starts or tokens == 0:
        yield from chunk(text, tokens=tokens, language=language)
        return
    open_, size = Span(0, 0), 0
    for part in map(Span._make, pairwise([*starts, len(text)])):
        for piece in chunk(text[part.start : part.end], tokens=tokens, language=language):
            span = Span(part.start + piece.start, part.start + piece.end)
            length = _length(text, span)
            if size and size + length > tokens:
                yield open_
                open_, size = span, length
            else:
                open_, size = Span(open_.start, span.end), size + length
    yield open_


def _length(text: str, span: Span) -> int:
    return sum(1 for _ in _WORD.finditer(text, span.start, span.end))


def _pieces(text: str, sentence: Span, tokens: int) -> Iterator[Span]:
    """Split a sentence longer than a passage at word boundaries."""
    start, count = sentence.start, 0
    for match in _WORD.finditer(text, sentence.start, sentence.end):
        if count == tokens:
            yield Span(start, match.start())
            start, count = match.start(), 0
        count += 1
    yield Span(start, sentence.end)


def _windows(text: str) -> Iterator[Span]:
    start = 0
    while start < len(text):
        end = min(len(text), start + _WINDOW)
        if end < len(text):
            half = start + _WINDOW // 2
            newline, space = (text.rfind(mark, half, end) + 1 for mark in "\n ")
            end = newline or space or end
        yield Span(start, end)
        start = end
