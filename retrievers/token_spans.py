"""Token spans: which characters of a text each token vector of a bi-encoder stands for.

They come from the encoder's own tokenizer with its own limit, so there is one for each vector, in
order. Tokens that the encoder adds ([CLS], a prompt) stand for no character.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple


class TokenSpan(NamedTuple):
    """The place of one token."""

    start: int
    """First character in the text."""
    end: int
    """One past the last; equal to ``start`` for a token that the encoder adds."""
    word: int | None
    """Number of the word it is a part of; None for a token that the encoder adds."""


def spans_of(
    offsets: Iterable[tuple[int, int]], words: Iterable[int | None], prompt: str, text: str
) -> list[TokenSpan]:
    """Take the place of each token in a text from its place in a prompt and the text.

    >>> spans_of([(0, 0), (0, 3), (4, 6)], [None, 0, 1], "say ", "hi")
    [TokenSpan(start=0, end=0, word=None), TokenSpan(start=0, end=0, word=None), \
TokenSpan(start=0, end=2, word=1)]
    """
    found: list[TokenSpan] = []
    for (start, end), word in zip(offsets, words, strict=True):
        first, last = max(start - len(prompt), 0), end - len(prompt)
        if word is None or last <= first:
            found.append(TokenSpan(0, 0, None))
        else:
            piece = text[first:last]  # byte-level tokens begin with the space before them
            found.append(TokenSpan(last - len(piece.lstrip()), last, word))
    return found


def words_of(spans: Sequence[TokenSpan]) -> list[slice]:
    """Return the slice of tokens of each word; a token that the encoder adds is one alone.

    >>> words_of([TokenSpan(0, 0, None), TokenSpan(0, 2, 0), TokenSpan(2, 4, 0)])
    [slice(0, 1, None), slice(1, 3, None)]
    """
    starts = [
        n
        for n, span in enumerate(spans)
        if n == 0 or span.word is None or span.word != spans[n - 1].word
    ]
    return [slice(*pair) for pair in pairwise([*starts, len(spans)])]
