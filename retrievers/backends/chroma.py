"""Chroma as a vector engine: embedded in a folder, or a server behind a URL.

Chroma always receives our vectors; its own embedding functions are never used. Its graph may
lose passages that live on: many of one vector, and any once others were deleted or replaced
(https://github.com/chroma-core/chroma/issues/7758). Those are looked for and compared exactly.
Beside texts it compares only numbers, one a key, so lists travel as their least and greatest.
"""

import os
import weakref
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from ...core.errors import REBUILD, BackendUnavailable, ConfigError, CorruptStore, IndexMismatch
from ...core.filters import Filter
from ..encoder import Vectors
from ..ranked import Ranked
from .base import Payload, Rows, Sparse, VectorBackend, VectorSchema, without_key
from .predicates import (
    AllOf,
    Among,
    AnyOf,
    Between,
    Negated,
    Predicate,
    Present,
    predicate,
    typed_payload,
)

_HNSW = {"space": "ip", "ef_construction": 200, "ef_search": 200, "max_neighbors": 32}
_BATCH = 2_000
_NUMBERS = 1_000_000
"""Numbers sent in one request; a server refuses bodies above 40 MB."""
_KEY = "CHROMA_API_KEY"
_CHANGED = "changed"
"""Key of a collection's metadata: passages were deleted or replaced."""


class ChromaBackend(VectorBackend):
    """One collection of Chroma."""

    capabilities = frozenset({"delete", "dense", "filter"})

    def __init__(
        self, place: Path | str, name: str, schema: VectorSchema, *, create: bool = False
    ) -> None:
        """Open a collection.

        Args:
            place: A folder, or the URL of a server; its token comes from ``CHROMA_API_KEY``.
            name: 3 to 512 letters, digits, dots, dashes and underscores.
            schema: What it holds.
            create: Start an empty one where there is none.

        Raises:
            CorruptStore: It is not there.
            IndexMismatch: It holds vectors of another dimension.
            BackendUnavailable: The server does not answer.
        """
        super().__init__(schema)
        self._place = place
        if isinstance(place, Path) and not create and not (place / "chroma.sqlite3").exists():
            raise CorruptStore(f"the dense index {str(place)!r} is missing", fix=REBUILD)
        with _errors(place, writing=create):
            client = _client(place)
        try:
            self._collection = self._open(client, name, create=create)
        except BaseException:
            _close(client)  # or Chroma would keep the folder open under its path
            raise
        # The last search that uses it, whose thread may outlive the generation, closes the files.
        self._finalizer = weakref.finalize(self, _close, client)
        self._census: tuple[int, Rows] | None = None

    def count(self) -> int:
        """Count the passages."""
        with _errors(self._place):
            return self._collection.count()

    def close(self) -> None:
        """Release the files or the connection."""
        self._finalizer()

    @classmethod
    def collections(cls, url: str) -> list[str]:
        """Return the names of a server's collections."""
        with _errors(url), _closing(_client(url)) as client:
            return [found.name for found in client.list_collections()]

    @classmethod
    def drop(cls, url: str, name: str) -> None:
        """Delete a collection of a server."""
        with _errors(url), _closing(_client(url)) as client:
            client.delete_collection(name)

    def _open(self, client: Any, name: str, *, create: bool) -> Any:
        with _errors(self._place, writing=create):
            if not create:
                found = client.get_collection(name, embedding_function=None)
            else:
                found = client.get_or_create_collection(
                    name,
                    embedding_function=None,
                    configuration={"hnsw": _HNSW},
                    metadata={"dim": self.schema.dense},
                )
        dim = (found.metadata or {}).get("dim", self.schema.dense)
        if dim != self.schema.dense:
            raise IndexMismatch(
                f"the collection {name!r} holds vectors of another dimension",
                expected=str(self.schema.dense),
                found=str(dim),
                mend=REBUILD,
            )
        return found

    def _add(
        self,
        rows: Rows,
        dense: Vectors,
        multi: Sequence[Vectors] | None,
        sparse: Sequence[Sparse] | None,
        payload: Sequence[Payload] | None,
    ) -> None:
        with _errors(self._place, writing=True):
            if self._known(rows):
                self._note_change()
                # A payload replaces the one before; Chroma would keep keys that are not in it.
                if payload is not None:
                    self._delete(rows)
            for part in _parts(len(rows), self.schema.dense):
                self._collection.upsert(
                    ids=_names(rows[part]),
                    embeddings=dense[part],
                    metadatas=payload and [_metadata(each) for each in payload[part]],
                )
        self._census = None

    def _delete(self, rows: Rows) -> None:
        with _errors(self._place, writing=True):
            self._note_change()
            for part in _parts(len(rows), 1):
                self._collection.delete(ids=_names(rows[part]))
        self._census = None

    def _known(self, rows: Rows) -> bool:
        """Say whether any of the passages is there."""
        return self._collection.count() > 0 and any(
            self._collection.get(ids=_names(rows[part]), limit=1, include=[])["ids"]
            for part in _parts(len(rows), 1)
        )

    def _note_change(self) -> None:
        """Tell readers that the graph may have lost passages."""
        noted = self._collection.metadata or {}
        if _CHANGED not in noted:
            self._collection.modify(metadata={**noted, _CHANGED: True})

    def _search(self, vector: Vectors, k: int, within: Rows | None, where: Any) -> Ranked:
        with _errors(self._place):
            size, strays = self._counted(vector)
            k = min(k, size if within is None else len(within))
            if k < 1:
                return Ranked.empty()
            found = self._follow(vector, k, within, where)
            among = strays if within is None else np.intersect1d(strays, within)
            if len(among):
                found = _merged(found, self._compare(vector, among, where)).top(k)
            # Fewer are admitted than wanted, or not all of those are reached.
            return found if len(found.ids) == k else self._compare(vector, within, where).top(k)

    def _follow(self, vector: Vectors, k: int, within: Rows | None, where: Any) -> Ranked:
        """Rank by the graph; nothing where it does not know one of the ids."""
        from chromadb.errors import InternalError

        try:
            found = self._collection.query(
                query_embeddings=[vector.tolist()],
                n_results=k,
                ids=None if within is None else _names(within),
                where=where,
                include=["distances"],
            )
        except InternalError:
            if within is None:
                raise
            return Ranked.empty()
        distances = (found["distances"] or [[]])[0]
        return Ranked.of([int(row) for row in found["ids"][0]], [1.0 - d for d in distances])

    def _compare(self, vector: Vectors, within: Rows | None, where: Any) -> Ranked:
        """Rank by every vector, page by page."""
        ids, ranked, at = within if within is None else _names(within), Ranked.empty(), 0
        while True:
            page = self._collection.get(
                ids=ids, where=where, limit=_BATCH, offset=at, include=["embeddings"]
            )
            if not page["ids"]:
                return ranked
            scores = np.asarray(page["embeddings"], np.float32) @ vector
            ranked = _merged(ranked, Ranked.of([int(row) for row in page["ids"]], scores))
            at += _BATCH

    def _counted(self, vector: Vectors) -> tuple[int, Rows]:
        """Count the passages and find those that the graph, as opened here, does not reach."""
        if self._census is None:
            size, strays = self._collection.count(), np.zeros(0, np.int64)
            noted = self._collection.metadata or {}
            # Releases that noted no dimension noted no changes.
            if size and noted.get(_CHANGED, "dim" not in noted):
                reached = self._follow(vector, size, None, None).ids
                if len(reached) < size:
                    there = self._collection.get(include=[])["ids"]
                    strays = np.setdiff1d([int(row) for row in there], reached)
            self._census = size, strays
        return self._census

    def _compile(self, where: Filter) -> dict[str, Any] | None:
        found = predicate(where)
        return None if found is None else _where(found, holds=True)


def _where(found: Predicate, *, holds: bool) -> dict[str, Any] | None:
    """Say a predicate, or that it does not hold; Chroma has no negation of its own."""
    if isinstance(found, Negated):
        return _where(found.part, holds=not holds)
    if isinstance(found, Between):
        return _bounds(found, holds=holds)
    if isinstance(found, AllOf | AnyOf):
        parts = [_where(part, holds=holds) for part in found.parts]
        word = "$and" if isinstance(found, AllOf) == holds else "$or"
        return None if None in parts else {word: parts}
    key, text = ("fields", found.key) if isinstance(found, Present) else found
    return {key: {"$contains" if holds else "$not_contains": text}}


def _bounds(found: Between, *, holds: bool) -> dict[str, Any] | None:
    """Bound from one side by the least or the greatest; from both, only one value is exact."""
    key, low, high = found
    if low == high:
        return _where(Among(f"{key}_texts", repr(low)), holds=holds)
    if np.isfinite(low) and np.isfinite(high):
        return None
    end, within, beyond, value = (
        ("min", "$lte", "$gt", high) if np.isfinite(high) else ("max", "$gte", "$lt", low)
    )
    if holds:
        return {f"{key}_{end}": {within: value}}
    absent = {"fields": {"$not_contains": key}}
    return {"$or": [{f"{key}_{end}": {beyond: value}}, absent]}


def _metadata(payload: Payload) -> dict[str, Any]:
    fields, texts, numbers = typed_payload(payload)
    found: dict[str, Any] = {"fields": ["", *fields], **texts}  # Chroma refuses empty lists
    for key, values in numbers.items():
        found |= {f"{key}_min": min(values), f"{key}_max": max(values)}
        found[f"{key}_texts"] = [repr(value + 0.0) for value in values]
    return found


def _merged(one: Ranked, other: Ranked) -> Ranked:
    return Ranked.of(
        np.concatenate([one.ids, other.ids]), np.concatenate([one.scores, other.scores])
    )


def _parts(count: int, dim: int) -> Iterator[slice]:
    size = max(1, min(_BATCH, _NUMBERS // dim))
    return (slice(at, at + size) for at in range(0, count, size))


def _names(rows: Rows) -> list[str]:
    return [str(row) for row in rows.tolist()]


def _client(place: Path | str) -> Any:
    import chromadb
    from chromadb.config import Settings

    settings = Settings(anonymized_telemetry=False, allow_reset=False)
    if isinstance(place, Path):
        place.mkdir(parents=True, exist_ok=True)
        return chromadb.PersistentClient(str(place), settings=settings)
    url = urlsplit(place)
    token = os.environ.get(_KEY)
    return chromadb.HttpClient(
        host=url.hostname or "",
        port=url.port or (443 if url.scheme == "https" else 8000),
        ssl=url.scheme == "https",
        headers={"x-chroma-token": token} if token else None,
        settings=settings,
    )


@contextmanager
def _closing(client: Any) -> Generator[Any]:
    try:
        yield client
    finally:
        _close(client)


def _close(client: Any) -> None:
    client.close()
    # Chroma leaves its connections to the garbage collector; its administrator has its own.
    for part in (client, client._admin_client):
        if session := getattr(part._server, "_session", None):
            session.close()


@contextmanager
def _errors(place: Path | str, *, writing: bool = False) -> Generator[None]:
    """Say what Chroma or the way to it reports in our words."""
    import httpx
    from chromadb.errors import ChromaError, NotFoundError

    try:
        yield
    except NotFoundError as error:
        raise CorruptStore(
            f"{str(place)!r} has lost a collection ({error})", fix=REBUILD
        ) from error
    except (ChromaError, httpx.HTTPError, ValueError) as error:
        if isinstance(place, Path) and writing:
            raise ConfigError(
                f"the dense index {str(place)!r} cannot be written ({error})",
                fix="free disk space and try again; what was encoded is kept",
            ) from error
        if isinstance(place, Path):
            raise CorruptStore(
                f"the dense index {str(place)!r} cannot be read ({error})", fix=REBUILD
            ) from error
        reason = without_key(error, _KEY)
        raise BackendUnavailable(
            f"the Chroma server at {place!r} does not answer as it should ({reason})",
            install_hint="start it (chroma run --path DIR), or mend vector_url in settings.toml",
        ) from error
