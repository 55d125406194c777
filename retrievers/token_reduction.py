"""Token reduction: fewer token vectors a passage, without training, before they are stored.

``words`` averages the pieces of each word (ColBERTer, arXiv 2203.13088), ``content`` leaves out
stop words and punctuation, ``pooled:N`` averages clusters of tokens that are alike until there are
N times fewer. What is averaged is scaled to unit length again. Tokens that the encoder adds stay.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import numpy as np

from .encoder import Encoded, Vectors
from .keyword import STEMMERS
from .token_spans import TokenSpan, words_of
from .whole_texts import WholeTexts

_WITHOUT_STOP_WORDS = ("arabic", "greek", "romanian", "tamil", "turkish")
"""Languages that have a stemmer but no list of stop words."""


def reduced_documents(
    encoder: WholeTexts, texts: Sequence[str], late_tokens: str, language: str
) -> Iterator[tuple[int, Encoded]]:
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
        if late_tokens == "words":
            tokens = whole_words(tokens, encoder.token_spans(texts[at], "document"))
        elif late_tokens == "content":
            spans = encoder.token_spans(texts[at], "document")
            tokens = tokens[content(spans, texts[at], language)]
        elif late_tokens != "all":
            tokens = clustered(tokens, factor_of(late_tokens))
        yield at, Encoded(encoded.dense, tokens)


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
    from scipy.cluster.hierarchy import fcluster, linkage

    wanted = -(-len(tokens) // factor)
    if wanted >= len(tokens):
        return tokens
    # Between unit vectors the Euclidean distance rises with the angle; ties may leave fewer.
    tree = linkage(tokens, method="average", metric="euclidean")
    labels = fcluster(tree, wanted, criterion="maxclust") - 1
    sums = np.zeros((labels.max() + 1, tokens.shape[1]), np.float32)
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
