"""Learned sparse retrieval: inner products over an inverted index of term weights.

Three memory-mapped files a generation: where each term's postings start, their passages, their
weights in half precision. A query's terms add up exactly, so a filter changes no score. Sizes and
checksums are compared when the index is opened: what is damaged is an error, never another rank.
"""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.errors import CorruptStore
from .append_only import RE_ENCODE
from .late import Layout
from .ranked import Ranked
from .sparse_encoder import Terms
from .vectors import DAMAGED


class Postings(NamedTuple):
    """The terms of all passages, by term."""

    starts: NDArray[np.int64]
    """Of each term's postings; shape ``(terms + 1,)``."""
    passages: NDArray[np.int32]
    """Positions in the layout, rising within a term."""
    weights: NDArray[np.float16]

    @classmethod
    def invert(
        cls,
        lengths: NDArray[np.int64],
        terms: NDArray[np.uint32],
        weights: NDArray[np.float16],
        size: int,
    ) -> "Postings":
        """Turn the terms of passages, one passage after the other, into postings.

        >>> found = Postings.invert(
        ...     np.array([2, 1]), np.array([0, 2], np.uint32).repeat([1, 2]),
        ...     np.array([1, 2, 4], np.float16), 3)
        >>> found.starts.tolist(), found.passages.tolist(), found.weights.tolist()
        ([0, 1, 1, 3], [0, 0, 1], [1.0, 2.0, 4.0])
        """
        from scipy.sparse import csr_array

        kind = np.int32 if len(terms) < 1 << 31 else np.int64
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(kind)
        # scipy has no half precision; positions are moved instead, in time linear in the postings.
        numbers = np.arange(len(terms), dtype=kind)
        shape = (len(lengths), size)
        moved: Any = csr_array((numbers, terms.astype(kind), starts), shape=shape).tocsc()
        return cls(
            moved.indptr.astype(np.int64), moved.indices.astype(np.int32), weights[moved.data]
        )

    def save(self, folder: Path) -> dict[str, int]:
        """Write the files; returns their checksums."""
        folder.mkdir(parents=True)
        for name, values in self._asdict().items():
            np.save(folder / f"{name}.npy", values)
        return self.checksums()

    def checksums(self) -> dict[str, int]:
        """Return the checksum of each file's content."""
        return {
            name: zlib.crc32(np.ascontiguousarray(values).view(np.uint8).data)
            for name, values in self._asdict().items()
        }


class SparseIndex:
    """The postings of a published generation, read only."""

    def __init__(self, folder: Path, layout: Layout, card: Mapping[str, Any]) -> None:
        """Map the files of a folder.

        Args:
            folder: What :meth:`Postings.save` wrote.
            layout: Of the same generation.
            card: Of its manifest.

        Raises:
            CorruptStore: A file is missing, of another size, or has changed.
        """
        self.layout = layout
        try:
            maps = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in Postings._fields)
            self._postings = Postings(*map(np.asarray, maps))  # slices of a memmap cost more
            found = self._postings.checksums()
        except DAMAGED as error:
            raise _damaged(folder) from error
        if (found, len(layout.ids)) != (card["checksums"], card["passages"]):
            raise _damaged(folder)

    def search(self, query: Terms, k: int, within: NDArray[np.int64] | None = None) -> Ranked:
        """Rank the passages that share a term with the query, at most k.

        Args:
            query: Encoded by the model that encoded the passages.
            k: Passages wanted.
            within: Row ids; only they are ranked.
        """
        scores = self._scores(query)
        at = np.arange(len(scores)) if within is None else self.layout.find(within)
        at = at[scores[at] != 0]
        if k < 1 or not len(at):
            return Ranked.empty()
        if k < len(at):
            least = np.partition(scores[at], len(at) - k)[len(at) - k]
            at = at[scores[at] >= least]
        return Ranked.of(self.layout.ids[at], scores[at]).top(k)

    def _scores(self, query: Terms) -> NDArray[np.float32]:
        """Return the inner product of the query with every passage, by position."""
        starts, passages, weights = self._postings
        scores = np.zeros(len(self.layout.ids), np.float32)
        for term, weight in zip(query.ids.tolist(), query.weights.tolist(), strict=True):
            part = slice(starts[term], starts[term + 1])
            # A passage occurs once among the postings of a term.
            scores[passages[part]] += np.float32(weight) * weights[part].astype(np.float32)
        return scores


def _damaged(folder: Path) -> CorruptStore:
    return CorruptStore(f"the sparse index {str(folder)!r} is missing or damaged", fix=RE_ENCODE)
