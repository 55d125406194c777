"""Token fields: which field of its document each stored token vector stands for, and its weight.

A field's number is its row in the corpus; 0 stands for no field, as of tokens that the encoder
adds. The numbers lie beside the token vectors of a corpus with fields, one each, so that weights
are those of the settings at search time.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.errors import REBUILD, ConfigError, CorruptStore, IndexMismatch
from ..core.fields import BODY, TITLE, FieldSpan
from ..core.settings import Settings
from .encoder import Vectors
from .similarity_pooling import Pooling, pool
from .token_reduction import Labels
from .token_spans import TokenSpan

Numbers = NDArray[np.uint16]

MAX_NAMES = 1_000
"""Fields of one corpus; numbers have 16 bits."""


def is_weighted(settings: Settings) -> bool:
    """Say whether any field counts more or less than another."""
    return any(weight != 1 for weight in settings.field_weights.values())


def check_weights(settings: Settings, names: Sequence[str]) -> None:
    """Refuse weights that would not count.

    Args:
        settings: How to search.
        names: Fields that the index tells apart.

    Raises:
        ConfigError: RAGatouille answers late search.
        IndexMismatch: The index tells no fields apart.
    """
    if not is_weighted(settings):
        return
    if settings.ragatouille:
        raise ConfigError(
            "RAGatouille's late search has no field weights",
            fix="remove 'field_weights' or 'ragatouille' from settings.toml",
        )
    if not names:
        raise IndexMismatch(
            "the index was built without fields, which 'field_weights' would weigh",
            expected="fields told apart",
            found="none",
            mend=f"{REBUILD}, or remove 'field_weights' from settings.toml",
        )


def check_numbers(numbers: Numbers, fields: int) -> None:
    """Refuse numbers of none of so many fields (CorruptStore)."""
    if numbers.max(initial=0) > fields:
        raise CorruptStore("the fields of token vectors are damaged", fix=REBUILD)


class TokenWeights(NamedTuple):
    """The weight of each token vector of the vector files."""

    fields: Numbers
    """Number of each token vector's field."""
    table: Vectors
    """Weight by number."""

    def of(self, offset: int, length: int) -> Vectors:
        """Return the weights of a passage's token vectors."""
        numbers = self.fields[offset : offset + length]
        check_numbers(numbers, len(self.table) - 1)
        return self.table[numbers]


class FieldNumbers(NamedTuple):
    """The fields of a passage's tokens."""

    numbers: Numbers
    names: list[str]
    """As numbered from 1."""

    def best(self, similarities: Vectors, pooling: Pooling) -> str | None:
        """Return the field whose tokens met query tokens of the highest total score, if any did.

        Args:
            similarities: Weighted, shape ``(tokens, query tokens)``.
            pooling: What makes scores of them; each counts for the field of its best token.
        """
        met = self.numbers[similarities.argmax(axis=0)]
        totals = np.bincount(met, pool(similarities, pooling), len(self.names) + 1)
        found = np.unique(met[met > 0])
        return self.names[found[totals[found].argmax()] - 1] if len(found) else None

    def of(self, token: int) -> str | None:
        """Return the field of a token; None for one that the encoder adds."""
        number = int(self.numbers[token])
        return self.names[number - 1] if number else None


def weight_table(names: Sequence[str], weights: Mapping[str, float]) -> Vectors | None:
    """Return the weight of each number; None where all are 1.

    >>> weight_table(["title", "text"], {"title": 2.0})
    array([1., 2., 1.], dtype=float32)
    >>> weight_table(["title", "text"], {"title": 1.0, "tags": 3.0})
    """
    table = np.array([1.0, *(weights.get(name, 1.0) for name in names)], np.float32)
    return None if (table == 1).all() else table


def weigh(similarities: Vectors, weights: Vectors) -> None:
    """Multiply what speaks for a passage by the weights of its tokens, in place.

    A negative similarity stays as it is: a higher weight must not push a passage down.

    Args:
        similarities: Shape ``(tokens, query tokens)``.
        weights: Shape ``(tokens,)``.
    """
    np.multiply(similarities, weights[:, None], out=similarities, where=similarities > 0)


def read_parts(title: str, text: str, fields: Sequence[FieldSpan]) -> tuple[FieldSpan, ...]:
    r"""Return the place of each field in what the encoder reads of a passage; see `encoder_text`.

    >>> spans = [FieldSpan("text", 0, 3), FieldSpan("tags", 3, 4)]
    >>> [tuple(part) for part in read_parts("A", " b\nc", spans)]
    [('title', 0, 2), ('text', 2, 4), ('tags', 4, 5)]
    """
    body = len(title) + 1 if title else 0
    lead, length = len(text) - len(text.lstrip()), len(text.strip())
    parts = [FieldSpan(TITLE, 0, body)] if title else []
    for name, start, end in fields or [FieldSpan(BODY, 0, len(text))]:
        first, last = (min(max(place - lead, 0), length) + body for place in (start, end))
        if first < last:
            parts.append(FieldSpan(name, first, last))
    return tuple(parts)


def token_numbers(
    spans: Sequence[TokenSpan], parts: Sequence[FieldSpan], names: Sequence[str]
) -> Numbers:
    """Return the number of the field in which each token of a text begins."""
    numbers = np.zeros(len(spans), np.uint16)
    if not parts:
        return numbers
    of_part = np.array([names.index(part.name) + 1 for part in parts], np.uint16)
    starts = [part.start for part in parts]
    at = np.searchsorted(starts, [span.start for span in spans], side="right") - 1
    said = np.array([span.word is not None for span in spans], bool)
    numbers[said] = of_part[at[said]]
    return numbers


def vector_numbers(numbers: Numbers, labels: Labels, count: int) -> Numbers:
    """Return the number of the field from which each stored vector has most of its tokens.

    Args:
        numbers: Of each token.
        labels: The vector that each token became a part of, -1 for none.
        count: How many vectors there are.
    """
    votes = np.zeros((count, int(numbers.max(initial=0)) + 1), np.int64)
    kept = labels >= 0
    np.add.at(votes, (labels[kept], numbers[kept]), 1)
    votes[:, 0] = 0  # what the encoder adds has no say beside words
    return votes.argmax(axis=1).astype(np.uint16)
