"""Late interaction: exact MaxSim over memory-mapped token vectors of chosen candidates.

A query's score for a passage is the sum over query tokens of the best inner product with any
passage token (ColBERT, Khattab & Zaharia 2020, eq. 3). Vectors stay on disk in half precision;
a candidate's slice is widened to single precision when it is scored.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .encoder import Vectors
from .ranked import Ranked
from .vectors import Basis

_CHUNK_TOKENS = 8_192
"""Token vectors multiplied at once; keeps the product inside the processor's cache."""


class Layout(NamedTuple):
    """Where each passage's vectors lie, sorted by passage row id."""

    ids: NDArray[np.int64]
    documents: NDArray[np.int64]
    """Row id of the passage's document."""
    rows: NDArray[np.int64]
    """Row of the dense vector."""
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int64]

    def find(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the positions of row ids; ids that are not there are left out."""
        at = np.searchsorted(self.ids, ids)
        inside = at < len(self.ids)
        at, ids = at[inside], ids[inside]
        return at[self.ids[at] == ids]


class LateScorer:
    """Scores candidates of one published generation."""

    def __init__(self, layout: Layout, tokens: NDArray[np.float16], basis: Basis) -> None:
        """Map what the layout points into."""
        self.layout = layout
        self._tokens = tokens
        self._basis = basis

    def score(self, query_tokens: Vectors, ids: NDArray[np.int64]) -> Ranked:
        """Rank candidates by MaxSim.

        Args:
            query_tokens: Shape ``(query tokens, token_dim)``, unit length, not yet projected.
            ids: Candidate row ids.
        """
        at = self.layout.find(np.sort(ids))
        if not len(at) or not len(query_tokens):
            return Ranked.empty()
        query = self._basis.project(query_tokens).T.copy()  # (late_dim, q)
        scores = np.empty(len(at), np.float32)
        start = 0
        while start < len(at):
            stop = self._chunk(at, start)
            scores[start:stop] = self._maxsim(query, at[start:stop])
            start = stop
        return Ranked.of(self.layout.ids[at], scores)

    def _chunk(self, at: NDArray[np.int64], start: int) -> int:
        total = np.cumsum(self.layout.lengths[at[start : start + _CHUNK_TOKENS]])
        return start + max(1, int(np.searchsorted(total, _CHUNK_TOKENS, side="right")))

    def _maxsim(self, query: Vectors, at: NDArray[np.int64]) -> Vectors:
        offsets, lengths = self.layout.offsets[at], self.layout.lengths[at]
        tokens = np.concatenate(
            [self._tokens[o : o + n] for o, n in zip(offsets, lengths, strict=True)]
        ).astype(np.float32)
        similarity = tokens @ query  # (tokens, q)
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        return np.maximum.reduceat(similarity, starts, axis=0).sum(axis=1)
