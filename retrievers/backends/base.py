"""VectorBackend: what the index asks of a vector engine, and the checks all engines share.

An engine keeps passages by row id in one named collection and ranks them. It says what it can do in
``capabilities``; anything else raises ``UnsupportedByBackend``, nothing is ever quietly left out.
Subclasses implement the methods with an underscore, which get only checked arguments; whoever
writes one runs ``conformance.check_backend`` against it.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from ...core.errors import ConfigError
from ...core.filters import Filter
from ..encoder import Vectors
from ..ranked import Ranked

Capability = Literal["delete", "dense", "filter", "multivector", "sparse"]
Rows = NDArray[np.int64]
Payload = Mapping[str, Any]
"""A passage's metadata, as documents keep it."""


class VectorError(ConfigError):
    """An id or a vector that no engine can take."""


class UnsupportedByBackend(ConfigError):
    """The engine cannot do this, and says so in its capabilities."""


class VectorSchema(NamedTuple):
    """What a collection holds for each passage."""

    dense: int
    """Dimensions of the passage's unit vector."""
    multi: int = 0
    """Dimensions of each of its token vectors; 0 for none."""
    sparse: bool = False


class Sparse(NamedTuple):
    """A sparse vector: weights of a few of very many dimensions."""

    indices: NDArray[np.int64]
    values: NDArray[np.float32]


class VectorBackend(ABC):
    """One collection of a vector engine; threads may search it together."""

    capabilities: ClassVar[frozenset[Capability]]
    id_limit: ClassVar[int] = 5_000
    """Row ids that travel with one query; more are asked for in parts."""

    def __init__(self, schema: VectorSchema) -> None:
        """Hold what the collection's vectors look like."""
        self.schema = schema
        if schema.multi:
            self._needs("multivector")
        if schema.sparse:
            self._needs("sparse")

    def add(
        self,
        ids: Sequence[int] | Rows,
        *,
        dense: Vectors,
        multi: Sequence[Vectors] | None = None,
        sparse: Sequence[Sparse] | None = None,
        payload: Sequence[Payload] | None = None,
    ) -> None:
        """Add passages, replacing those of the same id.

        Args:
            ids: Row ids, none twice and none negative.
            dense: One unit vector a passage.
            multi: Its token vectors, if the schema has them.
            sparse: Its sparse vector, if the schema has one.
            payload: Its metadata, which filters compare.

        Raises:
            VectorError: There is nothing to add, an id or a vector is not valid, or lengths differ.
            UnsupportedByBackend: The engine or the schema has no place for it.
        """
        rows = _row_ids(ids)
        if not len(rows) or len(np.unique(rows)) < len(rows):
            _refuse("the ids to add are none or name a passage twice", "pass each id once")
        vectors = _finite(dense, self.schema.dense, 2)
        for name, values, needed in (
            ("multi", multi, self.schema.multi > 0),
            ("sparse", sparse, self.schema.sparse),
        ):
            if (values is not None) != needed:
                raise UnsupportedByBackend(
                    f"the collection {'needs' if needed else 'has no'} {name!r} vectors",
                    fix="pass what its schema says",
                )
        if payload is not None:
            self._needs("filter")
        for values in (vectors, multi, sparse, payload):
            if values is not None and len(values) != len(rows):
                _refuse(f"{len(rows)} ids came with {len(values)} values", "pass one for each id")
        tokens = multi and [_finite(each, self.schema.multi, 2) for each in multi]
        self._add(rows, vectors, tokens, sparse and [_sparse(s) for s in sparse], payload)

    def delete(self, ids: Sequence[int] | Rows) -> None:
        """Delete passages; ids that are not there are passed over."""
        self._needs("delete")
        if len(rows := _row_ids(ids)):
            self._delete(rows)

    def search(
        self, vector: Vectors, k: int, *, within: Rows | None = None, where: Filter | None = None
    ) -> Ranked:
        """Rank passages by the cosine of their vector, at most k.

        Args:
            vector: The query's unit vector.
            k: Passages wanted, at least 1.
            within: Row ids to rank among; unknown ones are passed over.
            where: A filter that ``pushes`` accepts.

        Raises:
            VectorError: The vector is empty, not finite or of another dimension, or k is below 1.
            UnsupportedByBackend: The engine cannot search this way or cannot say the filter.
        """
        self._needs("dense")
        query = _finite(vector, self.schema.dense, 1)
        return self._ranked(lambda *how: self._search(query, *how), k, within, where)

    def search_multi(
        self, tokens: Vectors, k: int, *, within: Rows | None = None, where: Filter | None = None
    ) -> Ranked:
        """Rank by MaxSim: each query token's best inner product with a passage's, summed."""
        self._needs("multivector")
        query = _finite(tokens, self.schema.multi, 2)
        return self._ranked(lambda *how: self._search_multi(query, *how), k, within, where)

    def search_sparse(
        self, vector: Sparse, k: int, *, within: Rows | None = None, where: Filter | None = None
    ) -> Ranked:
        """Rank the passages that share a dimension with the query by inner product."""
        self._needs("sparse")
        query = _sparse(vector)
        return self._ranked(lambda *how: self._search_sparse(query, *how), k, within, where)

    def pushes(self, where: Filter) -> bool:
        """Say whether the engine can apply a filter itself, exactly as ``Filter.matches`` does."""
        return "filter" in self.capabilities and self._compile(where) is not None

    @abstractmethod
    def count(self) -> int:
        """Count the passages."""

    @abstractmethod
    def close(self) -> None:
        """Release files and connections; closing twice is harmless."""

    @abstractmethod
    def _add(
        self,
        rows: Rows,
        dense: Vectors,
        multi: Sequence[Vectors] | None,
        sparse: Sequence[Sparse] | None,
        payload: Sequence[Payload] | None,
    ) -> None: ...

    def _delete(self, rows: Rows) -> None:
        raise NotImplementedError

    def _search(self, vector: Vectors, k: int, within: Rows | None, where: Any) -> Ranked:
        raise NotImplementedError

    def _search_multi(self, tokens: Vectors, k: int, within: Rows | None, where: Any) -> Ranked:
        raise NotImplementedError

    def _search_sparse(self, vector: Sparse, k: int, within: Rows | None, where: Any) -> Ranked:
        raise NotImplementedError

    def _compile(self, where: Filter) -> Any | None:
        """Say a filter in the engine's own language, or None where that would not be exact."""
        return None

    def _ranked(
        self,
        find: Callable[[int, Rows | None, Any], Ranked],
        k: int,
        within: Rows | None,
        where: Filter | None,
    ) -> Ranked:
        if k < 1:
            _refuse(f"k is {k}", "ask for at least 1")
        compiled = None if where is None else self._pushed(where)
        if within is None:
            return find(k, None, compiled)
        rows = np.unique(_row_ids(within))
        parts = [rows[at : at + self.id_limit] for at in range(0, len(rows), self.id_limit)]
        found = [find(min(k, len(part)), part, compiled) for part in parts]
        if not found:
            return Ranked.empty()
        ids, scores = zip(*found, strict=True)
        return Ranked.of(np.concatenate(ids), np.concatenate(scores)).top(k)

    def _pushed(self, where: Filter) -> Any:
        self._needs("filter")
        compiled = self._compile(where)
        if compiled is None:
            raise UnsupportedByBackend(
                f"{type(self).__name__!r} cannot apply the filter {str(where)!r} exactly",
                fix="resolve it to row ids and pass them as within",
            )
        return compiled

    def _needs(self, capability: Capability) -> None:
        if capability not in self.capabilities:
            raise UnsupportedByBackend(
                f"{type(self).__name__!r} does not support {capability!r}",
                fix=f"use an engine that does; this one has {', '.join(sorted(self.capabilities))}",
            )


def without_key(error: object, variable: str) -> str:
    """Say what a server answered; one may repeat the key that it was sent."""
    key = os.environ.get(variable)
    return str(error).replace(key, "…") if key else str(error)


def _row_ids(ids: Sequence[int] | Rows) -> Rows:
    rows = np.asarray(ids)
    if rows.ndim != 1 or (len(rows) and (rows.dtype.kind not in "iu" or rows.min() < 0)):
        _refuse("row ids are not whole numbers from 0", "pass a flat list of them")
    return rows.astype(np.int64)


def _finite(vectors: Vectors, dim: int, axes: int) -> Vectors:
    """Check one vector (``axes`` 1) or a table of them (2)."""
    found = np.asarray(vectors, dtype=np.float32)
    if found.ndim != axes or not found.size or found.shape[-1] != dim:
        what = "dimensions" if axes == 1 else "dimensions a row"
        _refuse(f"vectors of shape {found.shape} came where {dim} {what} belong", f"pass {dim}")
    if not np.isfinite(found).all():
        _refuse("a vector holds values that are not finite", "check the encoder that made it")
    return found


def _sparse(vector: Sparse) -> Sparse:
    indices = _row_ids(vector.indices)
    if len(np.unique(indices)) < len(indices):
        _refuse("a sparse vector names a dimension twice", "add up its weights")
    return Sparse(indices, _finite(vector.values, len(indices), 1))


def _refuse(message: str, fix: str) -> NoReturn:
    raise VectorError(message, fix=fix)
