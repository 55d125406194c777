"""Seeded passages, filters and their answers by brute force, for checking vector engines."""

import random
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...core.filters import Comparison, Filter
from ..encoder import Vectors
from ..ranked import Ranked
from .base import Rows, Sparse, VectorBackend

DIM = 16
TOKEN_DIM = 8

_PLACES = ("Łódź", "東京", "a'b\"c", "$ne", "")
_LISTED = "a.b \"c'"
"""A field whose name means something to query languages."""


class Corpus(NamedTuple):
    """Passages with every kind of vector, by brute force."""

    ids: Rows
    dense: Vectors
    multi: list[Vectors]
    sparse: list[Sparse]
    payload: list[dict[str, Any]]

    def add_to(self, backend: VectorBackend) -> None:
        """Add everything that the collection has a place for."""
        backend.add(
            self.ids,
            dense=self.dense,
            multi=self.multi if backend.schema.multi else None,
            sparse=self.sparse if backend.schema.sparse else None,
            payload=self.payload if "filter" in backend.capabilities else None,
        )

    def ranked(self, query: Vectors, within: Sequence[int] | Rows | None = None) -> Ranked:
        """Rank all by cosine."""
        keep = slice(None) if within is None else np.isin(self.ids, within)
        return Ranked.of(self.ids[keep], self.dense[keep] @ query)

    def admitted(self, where: Filter) -> list[int]:
        """Return the ids of the passages that a filter admits."""
        return [
            row
            for row, metadata in zip(self.ids.tolist(), self.payload, strict=True)
            if where.matches(metadata)
        ]


def make_corpus(count: int, dim: int = DIM, seed: int = 0) -> Corpus:
    """Make seeded passages; every tenth has the vector of its neighbour."""
    rng = np.random.default_rng(seed)
    dense = rng.normal(size=(count, dim)).astype(np.float32)
    dense[10::10] = dense[9:-1:10]
    dense /= np.linalg.norm(dense, axis=1, keepdims=True)
    return Corpus(
        ids=np.arange(count, dtype=np.int64) * 3 + 1,
        dense=dense,
        multi=[rng.normal(size=(1 + n % 4, TOKEN_DIM)).astype(np.float32) for n in range(count)],
        sparse=[_sparse(rng) for _ in range(count)],
        payload=[_metadata(n) for n in range(count)],
    )


def make_filters(count: int, seed: int = 0) -> Iterator[Filter]:
    """Make seeded filters over the metadata of ``make_corpus``."""
    chance = random.Random(seed)
    for _ in range(count):
        where = _comparison(chance)
        for _ in range(chance.randrange(3)):
            other = _comparison(chance)
            where = where & other if chance.random() < 0.5 else where | ~other
        yield ~where if chance.random() < 0.3 else where


def _metadata(n: int) -> dict[str, Any]:
    fields: dict[str, Any] = {"place": _PLACES[n % 5], "n": n, "even": n % 2 == 0}
    fields["day"] = f"2023-{1 + n % 12:02}-{1 + n % 28:02}"
    if n % 3:
        fields[_LISTED] = [n / 4, -n, _PLACES[n % 4]][: n % 3 + 1]
    if n % 7 == 0:
        fields["none"] = []
    return fields


def _comparison(chance: random.Random) -> Filter:
    order = chance.choice(["=", "!=", "<", "<=", ">", ">="])
    number = chance.choice([0, 7, 150, 2.5, 10**20])
    day = chance.choice(["2023-06-15", "2023-02", 2023, "2023-06-15T12:00:00+05:30"])
    text = chance.choice(_PLACES)
    field, op, value = chance.choice(
        [
            (chance.choice(["n", _LISTED, "gone"]), order, number),
            (chance.choice(["place", _LISTED]), chance.choice(["=", "!=", "contains", "<"]), text),
            ("day", order, day),
            ("place", "in", chance.sample(_PLACES, 2)),
            ("even", "=", chance.random() < 0.5),
            (chance.choice(["none", _LISTED, "gone"]), "exists", True),
        ]
    )
    return Comparison.model_validate({"field": field, "op": op, "value": value})


def _sparse(rng: np.random.Generator) -> Sparse:
    indices = np.sort(rng.choice(50, size=5, replace=False)).astype(np.int64)
    return Sparse(indices, rng.uniform(0.1, 1, size=5).astype(np.float32))


def make_queries(dim: int = DIM, count: int = 10) -> Vectors:
    """Make seeded unit vectors."""
    queries = np.random.default_rng(1).normal(size=(count, dim)).astype(np.float32)
    return queries / np.linalg.norm(queries, axis=1, keepdims=True)
