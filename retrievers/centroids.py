"""Candidates by centroids of token vectors (PLAID, Santhanam et al. 2022, stages 1 to 3).

Token vectors fall into two levels of k-means; each centroid has an inverted list of the rows that
hold a token of it. A query token probes the lists of its nearest centroids: a row's score is the
sum over query tokens of its best probed centroid's similarity. A row in none of a token's lists
gets the best similarity that was not probed instead, the most it could have (as XTR imputes what
was not retrieved, Lee et al. 2023), so that only what was probed is ever read.
"""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from .codecs import kmeans
from .encoder import Vectors
from .stage_parts import Part, Parts

PROBES = 32
"""Lists that a query token reads; ``benchmarks/first_stages.py`` has others."""

_SAMPLE = 16
"""Token vectors for each centroid that they are fitted to."""

_BRANCHES = (4, 256)
"""Bounds of the centroids of each level."""

Postings = NDArray[np.uint32]


def branches_of(tokens: int) -> int:
    """Return the centroids of each level: some ``16 √tokens`` in all, as PLAID has.

    >>> [branches_of(tokens) for tokens in (100, 1_500_000, 100_000_000)]
    [16, 128, 256]
    """
    least, most = _BRANCHES
    return int(np.clip(2 ** round(np.log2(4 * max(tokens, 1) ** 0.25)), least, most))


class Centroids:
    """Inverted lists over the tokens of rows."""

    arrays: ClassVar[frozenset[str]] = frozenset({"starts", "rows"})

    def __init__(self, parts: Parts, probes: int = PROBES) -> None:
        """Read what was fitted and built."""
        self.parts = parts
        self.probes = probes
        self._coarse = np.asarray(parts.tables["coarse"])  # (branches, dim)
        self._fine = np.asarray(parts.tables["fine"])  # (branches, branches, dim)
        self._flat = self._fine.reshape(-1, self._fine.shape[-1])

    @staticmethod
    def sample_size(tokens: int) -> int:
        """Return how many of so many token vectors :meth:`fit` wants."""
        return _SAMPLE * branches_of(tokens) ** 2

    @classmethod
    def fit(cls, sample: Vectors, tokens: int) -> "Centroids":
        """Fit centroids to a random sample, in random order, of so many token vectors."""
        from scipy.cluster.vq import vq

        branches = branches_of(tokens)
        coarse = kmeans(sample[: 256 * branches], branches)
        nearest = vq(sample, coarse, check_finite=False)[0]
        cells = [sample[nearest == n] for n in range(branches)]
        fine = [
            kmeans(cell if len(cell) else coarse[n : n + 1], branches)
            for n, cell in enumerate(cells)
        ]
        return cls(Parts({"coarse": coarse, "fine": np.stack(fine)}, []))

    def add(self, tokens: Vectors, lengths: NDArray[np.int64]) -> None:
        """Append rows: their token vectors end to end, and how many each has."""
        first = self.parts.end
        rows = np.repeat(np.arange(first, first + len(lengths)), lengths)
        # One entry for all tokens of a row that share a centroid, by centroid, then by row.
        entries = np.unique(self._nearest(tokens) << 32 | rows)
        starts = np.searchsorted(entries >> 32, np.arange(len(self._flat) + 1))
        arrays = {"starts": starts, "rows": entries.astype(np.uint32)}  # the lower half
        self.parts.add(Part(first, first + len(lengths), arrays), merged)

    def scores(self, query: Vectors) -> Vectors:
        """Score every row from 0 up; 0 if no probed list holds it.

        Args:
            query: Shape ``(query tokens, dim)``, projected.
        """
        total, best = np.zeros((2, self.parts.end), np.float32)
        for similarities in query @ self._flat.T:
            gains, lists = self._probe(similarities)
            for gain, rows in zip(gains, lists, strict=True):
                best[rows] = gain  # by rising gain: the last is the greatest
            seen = np.concatenate(lists) if lists else np.zeros(0, np.uint32)
            total[seen] += best[seen]  # once for a row, however often it was seen
            best[seen] = 0
        return total

    def _probe(self, similarities: Vectors) -> tuple[Vectors, list[Postings]]:
        """Return the lists nearest to a query token, nearest last, and what each adds to a row."""
        count = min(self.probes + 1, len(similarities))
        nearest = np.argpartition(similarities, -count)[-count:]
        nearest = nearest[np.argsort(similarities[nearest])]
        gains = (similarities[nearest] - similarities[nearest[0]])[1:]
        lists = [
            part.arrays["rows"][part.arrays["starts"][c] : part.arrays["starts"][c + 1]]
            for c in nearest[1:]
            for part in self.parts.parts
        ]
        return np.repeat(gains, len(self.parts.parts)), lists

    def _nearest(self, tokens: Vectors) -> NDArray[np.int64]:
        """Return each token's centroid: the nearest of its coarse centroid's own."""
        from scipy.cluster.vq import vq

        cells = vq(tokens, self._coarse, check_finite=False)[0]
        order = np.argsort(cells, kind="stable")
        bounds = np.searchsorted(cells[order], np.arange(len(self._coarse) + 1))
        found = np.empty(len(tokens), np.int64)
        for n in np.unique(cells):
            inside = order[bounds[n] : bounds[n + 1]]
            near = vq(tokens[inside], self._fine[n], check_finite=False)[0]
            found[inside] = n * len(self._coarse) + near
        return found


def merged(left: Part, right: Part) -> Part:
    """Join the lists of two neighbours: all rows of the left are below those of the right."""
    before, after = np.asarray(left.arrays["starts"]), np.asarray(right.arrays["starts"])
    rows = np.empty(before[-1] + after[-1], np.uint32)
    rows[np.arange(before[-1]) + np.repeat(after[:-1], np.diff(before))] = left.arrays["rows"]
    rows[np.arange(after[-1]) + np.repeat(before[1:], np.diff(after))] = right.arrays["rows"]
    return Part(left.first, right.end, {"starts": before + after, "rows": rows})
