"""Held-out queries like what was trained, and unlike it.

Gains on queries that resemble the trained ones often vanish on others (Zhan et al., arXiv
2204.11447), so both are measured apart. A query counts as *interpolation* if it is nearer to its
nearest trained query than half of the held-out queries are, or a document relevant to it was
trained as a positive; the others are *extrapolation*. Nearness is the cosine of dense vectors of
the settings' encoder, which no training has moved. The bound is the median and not a fixed cosine:
what cosine two unlike texts have depends on the encoder, and either part keeps enough queries to be
tested.
"""

from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

import numpy as np

from ...core.documents import split_passage_id
from ..encoder import Encoded
from .examples import Example, HeldOut
from .trial import Part


class Place(NamedTuple):
    """Where a held-out query lies."""

    part: Part
    nearest: float
    """Cosine of the nearest trained query."""
    seen: bool
    """Whether a relevant document was trained as a positive."""


def place(
    queries: Sequence[HeldOut], examples: Sequence[Example], encode: Callable[[str], Encoded]
) -> tuple[list[Place], float]:
    """Place held-out queries.

    Args:
        queries: At least one.
        examples: What was trained, at least one.
        encode: Encodes a query by the encoder of the settings.

    Returns:
        Places in the order of the queries, and the bound of nearness.
    """
    trained = np.stack([encode(query).dense for query in dict.fromkeys(e.query for e in examples)])
    nearest = [float((trained @ encode(item.query).dense).max()) for item in queries]
    positives = {split_passage_id(example.positive)[0] for example in examples}
    seen = [not positives.isdisjoint(item.relevant) for item in queries]
    bound = median(nearest)
    return [
        Place("interpolation" if known or near >= bound else "extrapolation", near, known)
        for near, known in zip(nearest, seen, strict=True)
    ], bound
