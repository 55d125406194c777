"""Ranked: row ids with scores, best first, as every engine returns them.

Arrays, not objects: passages are fetched only for what is finally shown.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Ranked(NamedTuple):
    """Passages by falling score; equal scores by rising row id."""

    ids: NDArray[np.int64]
    scores: NDArray[np.float32]

    @classmethod
    def empty(cls) -> "Ranked":
        """No passages."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.float32))

    @classmethod
    def of(
        cls, ids: Sequence[int] | NDArray[Any], scores: Sequence[float] | NDArray[Any]
    ) -> "Ranked":
        """Sort parallel ids and scores.

        >>> Ranked.of([7, 3, 5], [1.0, 2.0, 2.0]).ids.tolist()
        [3, 5, 7]
        """
        rows = np.asarray(ids, dtype=np.int64)
        values = np.asarray(scores, dtype=np.float32)
        order = np.lexsort((rows, -values))
        return cls(rows[order], values[order])

    def top(self, k: int) -> "Ranked":
        """Keep the best k."""
        return Ranked(self.ids[:k], self.scores[:k])
