"""What every encoder gives: vectors of unit length, so that inner products are cosines."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Kind = Literal["query", "document"]


@dataclass(frozen=True, slots=True)
class Encoded:
    """The vectors of one text."""

    dense: Vectors
    """Shape ``(dim,)``."""
    tokens: Vectors
    """Shape ``(tokens, token_dim)``."""
