"""Token reduction: fewer token vectors a passage, without training, before they are stored.

``words`` averages the pieces of each word (ColBERTer, arXiv 2203.13088), ``content`` leaves out
stop words and punctuation, ``pooled:N`` averages clusters of tokens that are alike until there are
N times fewer. What is averaged is scaled to unit length again. Tokens that the encoder adds stay.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .encoder import Encoded, Vectors
from .keyword import STEMMERS
from .token_spans import TokenSpan, words_of
from .whole_texts import WholeTexts

_WITHOUT_STOP_WORDS = ("arabic", "greek", "romanian", "tamil", "turkish")
"""Languages that have a stemmer but no list of stop words."""


Labels = NDArray[np.int64]
"""The number of the vector that each token became a part of, -1 for none."""


class Reduced(NamedTuple):
    """The vectors that are stored of one text."""

    encoded: Encoded
    labels: Labels


def reduced_documents(
    encoder: WholeTexts, texts: Sequence[str], late_tokens: str, language: str
) -> Iterator[tuple[int, Reduced]]:
    """Encode texts as :meth:`WholeTexts.documents` does, and keep fewer token vectors of each.

    Args:
        encoder: Any for ``all`` and ``pooled``; a bi-encoder for the others.
        texts: What is read.
        late_tokens: As in the settings.
        language: Whose stop words ``content`` leaves out.

    Raises:
        ConfigError: A multi-vector model cannot tell which words its vectors stand for.
    """
    for at, encoded in encoder.documents(texts):
        tokens = encoded.tokens
        labels = np.arange(len(tokens))
        if late_tokens == "words":
            spans = encoder.token_spans(texts[at], "document")
            tokens = whole_words(tokens, spans)
            lengths = [word.stop - word.start for word in words_of(spans)]
            labels = np.repeat(np.arange(len(lengths)), lengths)
        elif late_tokens == "content":
            kept = content(encoder.token_spans(texts[at], "document"), texts[at], language)
            tokens, labels = tokens[kept], np.full(len(tokens), -1)
            labels[kept] = np.arange(len(kept))
        elif late_tokens != "all":
            labels = clusters(tokens, factor_of(late_tokens))
            tokens = averaged(tokens, labels)
        yield at, Reduced(Encoded(encoded.dense, tokens), labels)


def factor_of(late_tokens: str) -> int:
    """Return how many times fewer vectors than tokens are surely stored.

    >>> factor_of("pooled:3"), factor_of("words")
    (3, 1)
    """
    return int(late_tokens.removeprefix("pooled:")) if late_tokens.startswith("pooled:") else 1


def whole_words(tokens: Vectors, spans: Sequence[TokenSpan]) -> Vectors:
    """Average the pieces of each word, shape ``(words, dim)``."""
    starts = [part.start for part in words_of(spans)]
    return _unit(np.add.reduceat(tokens, starts)) if starts else tokens


def content(spans: Sequence[TokenSpan], text: str, language: str) -> list[int]:
    """Return the numbers of the tokens whose word is neither a stop word nor punctuation.

    A language without a list of stop words loses punctuation only; a text that holds nothing else
    keeps what the encoder adds.
    """
    says = _analyser(language)
    kept: list[int] = []
    for part in words_of(spans):
        inside = range(part.start, part.stop)
        first, last = spans[part.start], spans[part.stop - 1]
        if first.word is None or says(text[first.start : last.end]):
            kept.extend(inside)
    return kept


def clustered(tokens: Vectors, factor: int) -> Vectors:
    """Average clusters of like tokens (average linkage by cosine), ``ceil(n / factor)`` of them."""
    return averaged(tokens, clusters(tokens, factor))


def clusters(tokens: Vectors, factor: int) -> Labels:
    """Return the cluster of each token."""
    from scipy.cluster.hierarchy import fcluster, linkage

    wanted = -(-len(tokens) // factor)
    if wanted >= len(tokens):
        return np.arange(len(tokens))
    # Between unit vectors the Euclidean distance rises with the angle; ties may leave fewer.
    tree = linkage(tokens, method="average", metric="euclidean")
    return fcluster(tree, wanted, criterion="maxclust").astype(np.int64) - 1


def averaged(tokens: Vectors, labels: Labels) -> Vectors:
    """Average the tokens of each cluster; those that are clusters of their own stay as they are."""
    count = int(labels.max(initial=-1)) + 1
    if count == len(tokens):
        return tokens
    sums = np.zeros((count, tokens.shape[1]), np.float32)
    np.add.at(sums, labels, tokens)
    return _unit(sums)


def _unit(vectors: Vectors) -> Vectors:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(norms, 1e-12)).astype(np.float32)


@lru_cache(maxsize=4)
def _analyser(language: str) -> Callable[[str], list[str]]:
    """Return what leaves the words of a text that are neither stop words nor punctuation."""
    from tantivy import Filter, TextAnalyzerBuilder, Tokenizer

    builder = TextAnalyzerBuilder(Tokenizer.simple()).filter(Filter.lowercase())
    if (name := STEMMERS.get(language)) and name not in _WITHOUT_STOP_WORDS:
        builder = builder.filter(Filter.stopword(name))
    return builder.build().analyze
