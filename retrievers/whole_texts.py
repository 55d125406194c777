"""Whole texts: what an encoder makes of texts of any length, from what its model reads at once.

The same for a loaded model and for its export, so that both give the same vectors. Texts of one
window go through exactly as they are.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from .encoded import Encoded, Kind
from .reading import Reading
from .token_spans import TokenSpan
from .tokenizers import Spaced, find_tokenizer, spaced
from .windows import (
    MAX_CHARACTERS,
    MAX_TOKENS,
    Token,
    Window,
    joined,
    joined_spans,
    kept,
    windows_of,
)

_TOGETHER = 64
"""Windows of long texts whose vectors are held in memory together, or all of one text."""


class WholeTexts(ABC):
    """Encodes and places the tokens of texts; an encoder says what it does with one part."""

    @property
    @abstractmethod
    def reading(self) -> Reading:
        """How texts are read."""

    @abstractmethod
    def _parts(self, texts: Sequence[str], *, exact: bool) -> Iterator[tuple[int, Encoded]]:
        """Encode what fits, each text once."""

    @abstractmethod
    def _part_spans(self, text: str, kind: Kind) -> list[TokenSpan]:
        """Place the tokens of what fits."""

    @abstractmethod
    def _tokens(self, text: str) -> list[Token]:
        """Find all tokens of a text, without what is added."""

    @abstractmethod
    def _room(self) -> int:
        """Tokens of a document that are read at once, without what is added."""

    def documents(
        self, texts: Sequence[str], *, exact: bool = False
    ) -> Iterator[tuple[int, Encoded]]:
        """Encode texts once each, yielding ``(position, vectors)`` batch by batch.

        Order of yield is by falling length inside windows; every position comes exactly once.

        Args:
            texts: What is read.
            exact: Calculate in full precision, whatever the encoder's own is for documents.
        """
        texts = [self.as_read(text) for text in texts]
        if self.reading.long_texts == "cut":
            yield from self._parts(texts, exact=exact)
            return
        windows = [self._windows(text) for text in texts]
        short = [n for n, found in enumerate(windows) if len(found) == 1]
        for at, encoded in self._parts([texts[n] for n in short], exact=exact):
            yield short[at], encoded
        for group in _groups(windows):
            parts = [texts[n][w.start : w.end] for n in group for w in windows[n]]
            read = dict(self._parts(parts, exact=exact))
            at = 0
            for n in group:
                found = [read.pop(at + i) for i in range(len(windows[n]))]
                own = kept(windows[n], self._window_spans(texts[n], windows[n]))
                at += len(found)
                yield n, joined(found, own)

    def token_spans(self, text: str, kind: Kind) -> list[TokenSpan]:
        """Return the characters that each token vector of a text stands for.

        Raises:
            ConfigError: The encoder has no fast tokenizer, or pools its token vectors.
        """
        read = self._spaced(text)
        spans = self._all_spans(read.text, kind)
        if not read.spaces:
            return spans
        return [TokenSpan(read.before(s.start), read.before(s.end), s.word) for s in spans]

    def cuts(self, text: str) -> bool:
        """Say whether the end of a text is not read."""
        text = self.as_read(text)
        limit = self._room() if self.reading.long_texts == "cut" else MAX_TOKENS
        return len(text) > MAX_CHARACTERS or len(self._tokens(text)) > limit

    def as_read(self, text: str) -> str:
        """Return what the model reads of a text: with spaces, where tokens are to be apart."""
        return self._spaced(text).text

    def _spaced(self, text: str) -> Spaced:
        name = self.reading.encoder_tokenizer
        return spaced(text, find_tokenizer(name)) if name else Spaced(text, ())

    def _all_spans(self, text: str, kind: Kind) -> list[TokenSpan]:
        windows = [] if kind == "query" or self.reading.long_texts == "cut" else self._windows(text)
        if len(windows) < 2:
            return self._part_spans(text, kind)
        spans = self._window_spans(text, windows)
        return joined_spans(windows, spans, kept(windows, spans))

    def _windows(self, text: str) -> list[Window]:
        return windows_of(self._tokens(text[:MAX_CHARACTERS]), self._room())

    def _window_spans(self, text: str, windows: Sequence[Window]) -> list[list[TokenSpan]]:
        return [self._part_spans(text[w.start : w.end], "document") for w in windows]


def _groups(windows: Sequence[Sequence[Window]]) -> Iterator[list[int]]:
    """Yield the numbers of long texts, so many that their windows fill some batches."""
    group: list[int] = []
    for n, found in enumerate(windows):
        if len(found) > 1:
            group.append(n)
        if sum(len(windows[i]) for i in group) >= _TOGETHER:
            yield group
            group = []
    if group:
        yield group
