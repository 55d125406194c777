"""Candidates by fixed dimensional encodings (MUVERA, Dhulipala et al. 2024, arXiv 2405.19504).

Random hyperplanes part the space of token vectors (SimHash); a passage is the mean of its tokens in
each part, a query the sum of its own, so that one inner product approximates MaxSim. A part that
holds no token of a passage takes one of those nearest by Hamming distance (FillEmpty). Repetitions
are joined end to end. Encodings are int8 with a step for each, and searched exactly.
"""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from .encoder import Vectors
from .stage_parts import Part, Parts

_CHUNK = 1 << 18
"""Numbers widened at once: they stay in the processor's cache."""
_PASSAGES = 256
"""Encoded at once."""


class Muvera:
    """One encoding a row."""

    arrays: ClassVar[frozenset[str]] = frozenset({"steps", "codes"})
    planes: ClassVar[int] = 4
    """Hyperplanes of a repetition (k_sim): 2 to this many parts of the space."""
    repetitions: ClassVar[int] = 20
    projected: ClassVar[int] = 16
    """Dimensions that a part's mean is projected to (d_proj)."""

    def __init__(self, parts: Parts) -> None:
        """Read the random planes and what was built."""
        self.parts = parts
        self._planes = np.asarray(parts.tables["planes"])  # (repetitions, dim, planes)
        self._projections = np.asarray(parts.tables["projections"])  # (repetitions, dim, projected)
        self._spaces = 2 ** self._planes.shape[2]
        codes = np.arange(self._spaces)
        differing = codes[:, None] ^ codes[None]
        self._distances = sum((differing >> bit) & 1 for bit in range(self._planes.shape[2]))

    @staticmethod
    def sample_size(tokens: int) -> int:
        """Return 1: nothing is learnt but the dimension."""
        return min(tokens, 1)

    @classmethod
    def fit(cls, sample: Vectors, tokens: int) -> "Muvera":
        """Draw planes and projections for the dimension of the sample, the same each time."""
        rng, dim = np.random.default_rng(0), sample.shape[1]
        normals = rng.normal(size=(cls.repetitions, dim, cls.planes)).astype(np.float32)
        signs = rng.choice([-1.0, 1.0], (cls.repetitions, dim, cls.projected))
        projections = (signs / np.sqrt(cls.projected)).astype(np.float32)
        return cls(Parts({"planes": normals, "projections": projections}, []))

    def add(self, tokens: Vectors, lengths: NDArray[np.int64]) -> None:
        """Append rows: their token vectors end to end, and how many each has."""
        ends = np.cumsum(lengths)
        found: list[Vectors] = []
        for start in range(0, len(lengths), _PASSAGES):
            some = lengths[start : start + _PASSAGES]
            last = ends[start + len(some) - 1]
            found.append(self._encode(tokens[last - some.sum() : last], some))
        encoded = np.concatenate(found) if found else np.zeros((0, self._width), np.float32)
        steps = np.maximum(np.abs(encoded).max(axis=1, initial=0) / 127, 1e-12)
        arrays = {
            "steps": steps.astype(np.float32),
            "codes": np.rint(encoded / steps[:, None]).astype(np.int8),
        }
        first = self.parts.end
        self.parts.add(Part(first, first + len(lengths), arrays), merged)

    def scores(self, query: Vectors) -> Vectors:
        """Score every row by the inner product of its encoding and the query's.

        Args:
            query: Shape ``(query tokens, dim)``, projected.
        """
        asked = self._sums(query, np.zeros(len(query), np.int64), 1)[0].reshape(-1)
        total = np.empty(self.parts.end, np.float32)
        rows = max(1, _CHUNK // self._width)
        scratch = np.empty((rows, self._width), np.float32)
        for part in self.parts.parts:
            codes, steps = part.arrays["codes"], np.asarray(part.arrays["steps"])
            for start in range(0, len(codes), rows):
                some = np.asarray(codes[start : start + rows])
                wide = scratch[: len(some)]
                np.copyto(wide, some)
                at = part.first + start
                np.matmul(wide, asked, out=total[at : at + len(some)])
            total[part.first : part.end] *= steps
        return total

    @property
    def _width(self) -> int:
        return len(self._planes) * self._spaces * self._projections.shape[2]

    def _encode(self, tokens: Vectors, lengths: NDArray[np.int64]) -> Vectors:
        """Encode passages, shape ``(passages, width)``; one without tokens is zero."""
        owners = np.repeat(np.arange(len(lengths)), lengths)
        sums, counts, firsts = self._sums(tokens, owners, len(lengths))
        means = sums / np.maximum(counts, 1).astype(np.float32)[..., None]
        for n in range(len(self._planes)):
            held = counts[n] > 0  # (passages, spaces)
            distances = np.where(held[:, None], self._distances, self._spaces)
            nearest = distances.argmin(axis=2)  # of each part, the nearest that holds a token
            empty = ~held & held.any(axis=1, keepdims=True)
            taken = np.take_along_axis(firsts[n], nearest, axis=1)[empty]
            means[n][empty] = tokens[taken] @ self._projections[n]
        return means.transpose(1, 0, 2, 3).reshape(len(lengths), -1)

    def _sums(
        self, tokens: Vectors, owners: NDArray[np.int64], count: int
    ) -> tuple[Vectors, NDArray[np.int64], NDArray[np.int64]]:
        """Add up tokens by owner and part.

        Returns:
            The sums, ``(repetitions, owners, parts, projected)``; how many each has, and the first
            of them, ``(repetitions, owners, parts)``.
        """
        shape = (len(self._planes), count, self._spaces)
        sums = np.zeros((*shape, self._projections.shape[2]), np.float32)
        counts, firsts = np.zeros((2, *shape), np.int64)
        powers = 1 << np.arange(self._planes.shape[2])
        for n, (planes, projection) in enumerate(zip(self._planes, self._projections, strict=True)):
            places = owners * self._spaces + ((tokens @ planes) > 0) @ powers
            order = np.argsort(places, kind="stable")
            found, starts, sizes = np.unique(places[order], return_index=True, return_counts=True)
            if len(found):
                added = np.add.reduceat((tokens @ projection)[order], starts)
                sums[n].reshape(-1, sums.shape[-1])[found] = added
            counts[n].reshape(-1)[found] = sizes
            firsts[n].reshape(-1)[found] = order[starts]
        return sums, counts, firsts


def merged(left: Part, right: Part) -> Part:
    """Put the encodings of two neighbours end to end."""
    names = left.arrays.keys()
    joined = {name: np.concatenate([left.arrays[name], right.arrays[name]]) for name in names}
    return Part(left.first, right.end, joined)
