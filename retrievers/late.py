"""Late interaction: token by token scores over memory-mapped token vectors of chosen candidates.

A query's score for a passage is the sum over query tokens of the best inner product with any
passage token (ColBERT, Khattab & Zaharia 2020, eq. 3), or of another pooling of them. Vectors stay
on disk as a codec stored them; a candidate's slice is widened when it is scored.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .blas import one_thread
from .codecs import Codec, Half, Stored, decoded
from .encoder import Vectors
from .ranked import Ranked
from .similarity_pooling import Pooling, pool_each
from .token_fields import Numbers, TokenWeights, weigh
from .vectors import Basis

_CHUNK = 1024
"""Token vectors scored by one product, but for the last passage's; they stay in the cache."""


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

    def __init__(
        self,
        layout: Layout,
        tokens: Stored,
        basis: Basis,
        codec: Codec | None = None,
        pooling: Pooling = Pooling(),  # noqa: B008  (immutable)
        weights: TokenWeights | None = None,
    ) -> None:
        """Map what the layout points into; half precision unless another codec stored it."""
        self.layout = layout
        self._tokens = np.asarray(tokens)  # slices of a memmap cost more
        self._basis = basis
        self._codec = codec or Half({})
        self._pooling = pooling
        self._weights = weights

    def project(self, query_tokens: Vectors) -> Vectors:
        """Map query tokens to the space of the stored ones."""
        return self._basis.project(query_tokens)

    def score(self, query_tokens: Vectors, ids: NDArray[np.int64]) -> Ranked:
        """Rank candidates.

        Args:
            query_tokens: Shape ``(query tokens, token_dim)``, unit length, not yet projected.
            ids: Candidate row ids.
        """
        at = self.layout.find(np.sort(ids))
        if not len(at) or not len(query_tokens):
            return Ranked.empty()
        query = self._codec.query(self._basis.project(query_tokens))  # (widened dim, q)
        scores = np.zeros(len(at), np.float32)
        lengths = self.layout.lengths[at]
        held = np.flatnonzero(lengths)
        chunk = np.cumsum(lengths[held]) // _CHUNK
        scratch = np.empty((_CHUNK + lengths.max(), len(query)), np.float32)
        with one_thread():
            for some in np.split(held, np.flatnonzero(np.diff(chunk)) + 1):
                if len(some):
                    scores[some] = self._scores(query, at[some], scratch)
        return Ranked.of(self.layout.ids[at], scores)

    def _scores(self, query: Vectors, at: NDArray[np.int64], scratch: Vectors) -> Vectors:
        """Score passages by position with one product."""
        lengths = self.layout.lengths[at]
        ends = np.cumsum(lengths)
        spans = zip(self.layout.offsets[at], ends - lengths, lengths, strict=True)
        for offset, start, length in spans:
            self._codec.widen(self._tokens[offset : offset + length], scratch[start:])
        similarities = scratch[: ends[-1]] @ query
        if self._weights is not None:
            places = zip(self.layout.offsets[at].tolist(), lengths.tolist(), strict=True)
            weigh(similarities, np.concatenate([self._weights.of(*place) for place in places]))
        return pool_each(similarities, ends - lengths, self._pooling).sum(axis=1)

    def similarities(
        self,
        query_tokens: Vectors,
        row: int,
        tokens: Vectors | None = None,
        fields: Numbers | None = None,
    ) -> Vectors:
        """Return what a passage's score is pooled from, shape ``(tokens, query tokens)``.

        Args:
            query_tokens: As for :meth:`score`.
            row: The passage's row id.
            tokens: Its token vectors, not yet projected; the stored ones if not given.
            fields: Numbers of their fields, by which they are weighed.
        """
        if tokens is None:
            stored = self._tokens[self.place(row)]
            projected = decoded(self._codec, stored, self._basis.axes.shape[1])
        else:
            projected = self._basis.project(tokens)
        similarities = projected @ self._basis.project(query_tokens).T
        if self._weights is not None and fields is not None:
            weigh(similarities, self._weights.table[fields])
        return similarities

    def place(self, row: int) -> slice:
        """Return the rows of a passage's vectors in the files."""
        (at,) = self.layout.find(np.array([row]))
        start = int(self.layout.offsets[at])
        return slice(start, start + int(self.layout.lengths[at]))
