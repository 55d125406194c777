"""Late interaction: exact MaxSim over memory-mapped token vectors of chosen candidates.

A query's score for a passage is the sum over query tokens of the best inner product with any
passage token (ColBERT, Khattab & Zaharia 2020, eq. 3). Vectors stay on disk in half precision;
a candidate's slice is widened to single precision, exactly, when it is scored.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .encoder import Vectors
from .ranked import Ranked
from .vectors import Basis

_BIAS = np.float32(2.0**112)
"""Between the exponent biases of single (127) and half precision (15)."""

_SIGN_AND_MAGNITUDE = np.int32(-0x70000001)
"""Clears the three bits between sign and exponent that widening a negative half sets."""


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
        self._halves = np.asarray(tokens).view(np.int16)  # slices of a memmap cost more
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
        # Half-precision bits, moved to where single precision has them, are the numbers themselves
        # but for a power of two, which the query takes. Several times faster than numpy's cast.
        query = (self._basis.project(query_tokens) * _BIAS).T.copy()  # (late_dim, q)
        offsets, lengths = self.layout.offsets[at], self.layout.lengths[at]
        bits = np.empty((lengths.max(), len(query)), np.int32)
        scores = np.zeros(len(at), np.float32)
        for i, (offset, length) in enumerate(zip(offsets, lengths, strict=True)):
            if length:
                wide = bits[:length]
                np.left_shift(self._halves[offset : offset + length], 13, out=wide, dtype=np.int32)
                np.bitwise_and(wide, _SIGN_AND_MAGNITUDE, out=wide)
                scores[i] = (wide.view(np.float32) @ query).max(axis=0).sum()
        return Ranked.of(self.layout.ids[at], scores)
