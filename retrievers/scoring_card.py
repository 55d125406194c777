"""Scoring card: which tokens a multi-vector model reads and scores, as data of an exported model.

ColBERT's conventions without the library: queries are filled up with ``[MASK]`` tokens that are
scored (arXiv 2004.12832, section 3.2), punctuation of passages is read but not scored.
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


class TokenBatch(NamedTuple):
    """Texts as a model reads them; all of shape ``(texts, tokens)``."""

    input_ids: Ids
    attention_mask: Ids
    scored: NDArray[np.bool_]


class ScoringCard(NamedTuple):
    """How tokens are read and scored."""

    query_length: int
    """Tokens of a query that are read."""
    document_length: int
    expand_to: int
    """Tokens a query has at least; 0 for no expansion."""
    expansion_id: int
    attends: bool
    """Whether other tokens see the expansion."""
    skipped: list[int]
    """Tokens that are read but not scored."""
    skipped_of: list[str]
    """Of queries, documents or both."""

    def length(self, kind: Literal["query", "document"]) -> int:
        """Return how many tokens of a text are read."""
        return self.query_length if kind == "query" else self.document_length

    def batch(self, ids: Ids, mask: Ids, kind: Literal["query", "document"]) -> TokenBatch:
        """Fill queries up, and say which tokens are scored.

        Args:
            ids: Padded token ids.
            mask: 1 for tokens, 0 for padding.
            kind: What the texts are.
        """
        scored = mask.astype(bool)
        if kind == "query" and self.expand_to:
            missing = max(self.expand_to - ids.shape[1], 0)
            ids, mask = (np.pad(a, ((0, 0), (0, missing))) for a in (ids, mask))
            scored = mask.astype(bool) | (np.arange(ids.shape[1]) < self.expand_to)
            added = scored & (mask == 0)
            ids = np.where(added, self.expansion_id, ids)
            mask = np.where(added, int(self.attends), mask)
        if kind in self.skipped_of:
            scored &= ~np.isin(ids, self.skipped)
        return TokenBatch(ids, mask, scored)
