"""Windows: a text longer than its encoder reads, in overlapping parts, and their vectors as one.

A token's vector comes from the window in whose inner part it lies, so that every token has one and
sees text on both sides; overlapping windows are those of long late chunking (arXiv 2409.04701). The
dense vector is the mean of the windows', weighted by their tokens, at unit length.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ..core.errors import ConfigError
from .encoded import Encoded
from .token_spans import TokenSpan

MAX_TOKENS = 32_768
"""Tokens of a text that are read at most: 50 MB of vectors with 384 dimensions."""

MAX_CHARACTERS = 16 * MAX_TOKENS
"""Characters of a text that are looked at to find them."""

_OVERLAP = 4
"""One in so many tokens of a window is in the next one too."""

_RESERVE = 16
"""One in so many stays free, as a part of a text may fall into more tokens than it has inside."""

_LEAST_ROOM = 8


class Token(NamedTuple):
    """A token of a whole text."""

    start: int
    """First character."""
    end: int
    word: int | None
    """Number of its word."""


class Window(NamedTuple):
    """A part of a text, in characters of it."""

    start: int
    """Where reading begins."""
    end: int
    """One past the last character that is read."""
    first: int
    """The tokens that begin from here on have their vectors from this window."""
    last: int
    """Those from here on have theirs from the next."""


def windows_of(tokens: Sequence[Token], room: int) -> list[Window]:
    """Cut a text into windows; one that fits is a single window.

    Args:
        tokens: Of the whole text, at most :data:`MAX_TOKENS` are read.
        room: Tokens of a text that an encoder reads at once.

    Raises:
        ConfigError: There is hardly any room.

    >>> words = [Token(5 * n, 5 * n + 4, n) for n in range(24)]
    >>> [window[2:] for window in windows_of(words, 17)]
    [(0, 70), (70, 119)]
    """
    if room < _LEAST_ROOM:
        raise ConfigError(
            f"what is put before passages leaves the encoder room for {room} tokens of them",
            fix="raise 'max_tokens', or shorten 'document_prefix'",
        )
    tokens = tokens[:MAX_TOKENS]
    end = tokens[-1].end if tokens else 0
    if len(tokens) <= room:
        return [Window(0, end, 0, end)]
    size = room - max(1, room // _RESERVE)
    overlap = size // _OVERLAP
    starts = range(0, len(tokens) - overlap, size - overlap)
    inner = [_word_start(tokens, at, at + overlap // 2) for at in starts[1:]]
    borders = [0, *(tokens[at].start for at in inner), end]
    return [
        Window(tokens[at].start, tokens[min(at + size, len(tokens)) - 1].end, *borders[n : n + 2])
        for n, at in enumerate(starts)
    ]


def kept(windows: Sequence[Window], spans: Sequence[Sequence[TokenSpan]]) -> list[list[int]]:
    """Return the numbers of each window's tokens whose vectors count.

    What the encoder adds before a text counts in the first window, what it adds behind in the last.

    Args:
        windows: Of one text.
        spans: Of each window's vectors, in its own characters.
    """
    return [
        list(_kept(window, span, opens=window is windows[0], closes=window is windows[-1]))
        for window, span in zip(windows, spans, strict=True)
    ]


def joined(parts: Sequence[Encoded], own: Sequence[Sequence[int]]) -> Encoded:
    """Put the vectors of a text's windows together.

    Args:
        parts: Of each window.
        own: The tokens of each that count, see :func:`kept`.
    """
    tokens = np.concatenate([part.tokens[list(n)] for part, n in zip(parts, own, strict=True)])
    weights = np.array([len(n) for n in own], np.float32)
    dense = weights @ np.stack([part.dense for part in parts])
    if not len(tokens):
        tokens = np.zeros((1, tokens.shape[1]), np.float32)
    return Encoded(dense / max(float(np.linalg.norm(dense)), 1e-12), tokens)


def joined_spans(
    windows: Sequence[Window],
    spans: Sequence[Sequence[TokenSpan]],
    own: Sequence[Sequence[int]],
) -> list[TokenSpan]:
    """Return where in the whole text the tokens of :func:`joined` are."""
    found: list[TokenSpan] = []
    words = 0
    for window, inside, numbers in zip(windows, spans, own, strict=True):
        for start, end, word in (inside[n] for n in numbers):
            if word is None:
                found.append(TokenSpan(0, 0, None))
            else:
                found.append(TokenSpan(start + window.start, end + window.start, word + words))
        words = 1 + max((span.word for span in found if span.word is not None), default=-1)
    return found


def _word_start(tokens: Sequence[Token], lowest: int, at: int) -> int:
    """Go back to where a word begins; into a word too long for that, not at all."""
    for n in range(at, lowest, -1):
        if tokens[n].word is None or tokens[n].word != tokens[n - 1].word:
            return n
    return at


def _kept(
    window: Window, spans: Sequence[TokenSpan], *, opens: bool, closes: bool
) -> Iterator[int]:
    real = [n for n, span in enumerate(spans) if span.word is not None]
    head, tail = (real[0], real[-1]) if real else (len(spans), len(spans))
    inside = False
    for n, span in enumerate(spans):
        if span.word is not None:
            at = window.start + span.start
            # The last window has what is left, wherever the part's tokens begin.
            inside = window.first <= at and (closes or at < window.last)
        if opens if n < head else closes if n > tail else inside:
            yield n
