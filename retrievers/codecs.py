"""Codecs of token vectors: how few bytes a token takes on disk, and how it is read back.

Each codec turns unit vectors into one row of small integers or halves a token, and back into single
precision block by block while scoring. What is a factor for each dimension is put into the query
once instead of into every token, so reading back is a cast or one look-up, then BLAS does the rest.
Queries are never compressed (asymmetric scoring). Tables are fitted once, with the basis.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from ..core.settings import LateCodec
from .encoder import Vectors

Stored = NDArray[Any]
"""Tokens as they lie on disk, shape ``(tokens, columns)``."""

Tables = Mapping[str, Vectors]
"""What was learnt from a sample of tokens, by name."""

_BIAS = np.float32(2.0**112)
"""Between the exponent biases of single (127) and half precision (15)."""

_SIGN_AND_MAGNITUDE = np.int32(-0x70000001)
"""Clears the three bits between sign and exponent that widening a negative half sets."""

_GROUP = 4
"""Dimensions that share one byte of ``kmeans``: 256 centroids for each group."""

_SAMPLE = 20_000
"""Tokens that centroids are fitted to: some 80 for each."""

_ROUNDS = 10


class Codec(Protocol):
    """Bytes of a token, and back."""

    suffix: ClassVar[str]
    """Of the file that holds the tokens."""
    dtype: ClassVar[np.dtype[Any]]
    tables: ClassVar[tuple[str, ...]]
    """Names of what :meth:`fit` learns."""

    def __init__(self, tables: Tables) -> None:
        """Read what was learnt."""
        ...

    @staticmethod
    def fit(tokens: Vectors) -> Tables:
        """Learn tables from a sample of unit vectors, shape ``(tokens, dim)``."""
        ...

    @staticmethod
    def columns(dim: int) -> int:
        """Return how many numbers of ``dtype`` a token of ``dim`` dimensions takes."""
        ...

    def encode(self, tokens: Vectors) -> Stored:
        """Compress unit vectors, shape ``(tokens, dim)``."""
        ...

    def query(self, tokens: Vectors) -> Vectors:
        """Prepare a query, ``(query tokens, dim)``, as the right factor of what widens."""
        ...

    def widen(self, stored: Stored, out: Vectors) -> Vectors:
        """Read tokens back but for the factors that the query took.

        Args:
            stored: Tokens of one passage, contiguous.
            out: Scratch with a row for each token at least, and a column for each of the query's
                rows; what is returned is its beginning.
        """
        ...


class Half:
    """Half precision: two bytes a dimension, no loss that a ranking shows."""

    suffix: ClassVar[str] = "f16"
    dtype: ClassVar[np.dtype[Any]] = np.dtype(np.float16)
    tables: ClassVar[tuple[str, ...]] = ()

    def __init__(self, tables: Tables) -> None:
        """Need no tables."""

    @staticmethod
    def fit(tokens: Vectors) -> Tables:
        """Learn nothing."""
        return {}

    @staticmethod
    def columns(dim: int) -> int:
        """Return one for each dimension."""
        return dim

    def encode(self, tokens: Vectors) -> Stored:
        """Round."""
        return tokens.astype(np.float16)

    def query(self, tokens: Vectors) -> Vectors:
        """Take the power of two that :meth:`widen` leaves out."""
        return (tokens * _BIAS).T.copy()

    def widen(self, stored: Stored, out: Vectors) -> Vectors:
        """Move the bits to where single precision has them, several times faster than a cast.

        The numbers come out exactly but for a power of two, subnormal ones included.
        """
        wide = out[: len(stored)].view(np.int32)
        np.left_shift(stored.view(np.int16), 13, out=wide, dtype=np.int32)
        np.bitwise_and(wide, _SIGN_AND_MAGNITUDE, out=wide)
        return wide.view(np.float32)


class Int8:
    """One byte a dimension, with a step for each dimension: the largest of a sample is 127 steps.

    Steps by dimension follow the falling variance of the main axes and cost tokens no bytes.
    """

    suffix: ClassVar[str] = "i8"
    dtype: ClassVar[np.dtype[Any]] = np.dtype(np.int8)
    tables: ClassVar[tuple[str, ...]] = ("step",)

    def __init__(self, tables: Tables) -> None:
        """Read the steps."""
        self._step = tables["step"]

    @staticmethod
    def fit(tokens: Vectors) -> Tables:
        """Learn the steps."""
        return {"step": np.maximum(np.abs(tokens).max(axis=0) / 127, 1e-12).astype(np.float32)}

    @staticmethod
    def columns(dim: int) -> int:
        """Return one for each dimension."""
        return dim

    def encode(self, tokens: Vectors) -> Stored:
        """Round to steps; what lies beyond the sample's largest is cut off there."""
        return np.clip(np.rint(tokens / self._step), -127, 127).astype(np.int8)

    def query(self, tokens: Vectors) -> Vectors:
        """Take the steps."""
        return (tokens * self._step).T.copy()

    def widen(self, stored: Stored, out: Vectors) -> Vectors:
        """Cast."""
        wide = out[: len(stored)]
        np.copyto(wide, stored)
        return wide


class Binary:
    """One bit a dimension, its sign; a set bit stands for the dimension's mean magnitude."""

    suffix: ClassVar[str] = "b1"
    dtype: ClassVar[np.dtype[Any]] = np.dtype(np.uint8)
    tables: ClassVar[tuple[str, ...]] = ("magnitude",)

    def __init__(self, tables: Tables) -> None:
        """Read the magnitudes."""
        self._magnitude = tables["magnitude"]
        bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
        self._signs = bits.astype(np.float32) * 2 - 1  # (256, 8)

    @staticmethod
    def fit(tokens: Vectors) -> Tables:
        """Learn the magnitudes."""
        return {"magnitude": np.abs(tokens).mean(axis=0).astype(np.float32)}

    @staticmethod
    def columns(dim: int) -> int:
        """Return one for eight dimensions."""
        return -(-dim // 8)

    def encode(self, tokens: Vectors) -> Stored:
        """Keep the signs."""
        return np.packbits(tokens > 0, axis=1)

    def query(self, tokens: Vectors) -> Vectors:
        """Take the magnitudes; dimensions that only fill a byte count nothing."""
        return _padded(tokens * self._magnitude, 8).T.copy()

    def widen(self, stored: Stored, out: Vectors) -> Vectors:
        """Look up eight signs a byte."""
        wide = out[: len(stored)]
        np.take(self._signs, stored, axis=0, out=wide.reshape(*stored.shape, 8), mode="clip")
        return wide


class KMeans:
    """One byte for four dimensions: the nearest of 256 centroids that each four have.

    One byte for a whole token (HPC-ColPali) leaves 256 different tokens, too few for text; by
    groups of dimensions (product quantisation) the same look-up keeps tokens apart.
    """

    suffix: ClassVar[str] = "pq"
    dtype: ClassVar[np.dtype[Any]] = np.dtype(np.uint8)
    tables: ClassVar[tuple[str, ...]] = ("centroids",)

    def __init__(self, tables: Tables) -> None:
        """Read the centroids, shape ``(groups, 256, 4)``."""
        self._centroids = np.ascontiguousarray(tables["centroids"])
        self._first = np.arange(len(self._centroids)) * 256

    @staticmethod
    def fit(tokens: Vectors) -> Tables:
        """Learn the centroids of each group of dimensions."""
        sample = _padded(np.random.default_rng(0).permutation(tokens)[:_SAMPLE], _GROUP)
        parts = np.split(sample, sample.shape[1] // _GROUP, axis=1)
        found = np.stack([kmeans(part, 256) for part in parts])
        return {"centroids": found}

    @staticmethod
    def columns(dim: int) -> int:
        """Return one for four dimensions."""
        return -(-dim // _GROUP)

    def encode(self, tokens: Vectors) -> Stored:
        """Name the nearest centroids."""
        from scipy.cluster.vq import vq

        codes = np.zeros((len(tokens), len(self._centroids)), np.uint8)
        if len(tokens):
            parts = np.split(_padded(tokens, _GROUP), len(self._centroids), axis=1)
            for n, part in enumerate(parts):
                codes[:, n] = vq(part, self._centroids[n], check_finite=False)[0]
        return codes

    def query(self, tokens: Vectors) -> Vectors:
        """Fill the last group."""
        return _padded(tokens, _GROUP).T.copy()

    def widen(self, stored: Stored, out: Vectors) -> Vectors:
        """Look up the centroids."""
        wide = out[: len(stored)]
        flat = self._centroids.reshape(-1, _GROUP)
        at = stored + self._first
        np.take(flat, at, axis=0, out=wide.reshape(*stored.shape, _GROUP), mode="clip")
        return wide


CODECS: dict[LateCodec, type[Codec]] = {
    "fp16": Half,
    "int8": Int8,
    "kmeans": KMeans,
    "binary": Binary,
}
"""By name."""


def decoded(codec: Codec, stored: Stored, dim: int) -> Vectors:
    """Read whole vectors back, shape ``(tokens, dim)``."""
    factors = codec.query(np.eye(dim, dtype=np.float32))  # (columns that widen, dim)
    out = np.empty((len(stored), len(factors)), np.float32)
    return codec.widen(np.ascontiguousarray(stored), out) @ factors


def kmeans(points: Vectors, count: int) -> Vectors:
    """Move ``count`` of the points to the means of those nearest to them, ten times over (Lloyd).

    Args:
        points: In random order, at least one; the first ones are where it starts.
        count: Means wanted; some are the same where there are fewer points.
    """
    from scipy.cluster.vq import vq

    centroids = np.resize(points[:count], (count, points.shape[1]))
    for _ in range(_ROUNDS):
        nearest = vq(points, centroids, check_finite=False)[0]
        counts = np.bincount(nearest, minlength=count)
        sums = np.stack([np.bincount(nearest, column, count) for column in points.T], axis=1)
        centroids[counts > 0] = (sums[counts > 0] / counts[counts > 0, None]).astype(np.float32)
    return centroids


def _padded(tokens: Vectors, multiple: int) -> Vectors:
    """Add columns of zeros up to a multiple."""
    return np.pad(tokens, ((0, 0), (0, -tokens.shape[1] % multiple)))
