"""Qdrant as a vector engine: embedded in a folder or in memory, or a server behind a URL.

The embedded mode is the client's own: exact search over vectors held in memory, made for tens of
thousands of passages. It reads pickled points, so its folder must be as trusted as a program. A
reader opens a published folder through links of its own, because the client locks what it opens.
"""

import os
import pickle
import shutil
import sqlite3
import tempfile
import weakref
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import REBUILD, BackendUnavailable, ConfigError, CorruptStore, IndexMismatch
from ...core.filters import Filter
from ..encoder import Vectors
from ..ranked import Ranked
from .base import Payload, Rows, Sparse, VectorBackend, VectorSchema, without_key
from .predicates import AllOf, Among, AnyOf, Between, Predicate, Present, predicate, typed_payload

if TYPE_CHECKING:
    from qdrant_client import QdrantClient
    from qdrant_client import models as qdrant

MEMORY = ":memory:"
"""The place of a collection that is gone when closed."""
_NUMBERS = 500_000
"""Numbers sent in one request; a server refuses bodies above 32 MB."""
_BATCH = 500
_HNSW_EF = 256
_KEY = "QDRANT_API_KEY"
_UNREADABLE = (
    EOFError, KeyError, OSError, RuntimeError, ValueError, pickle.UnpicklingError, sqlite3.Error
)  # fmt: skip
"""What the client raises on a folder that is damaged or locked."""


class QdrantBackend(VectorBackend):
    """One collection of Qdrant."""

    capabilities = frozenset({"delete", "dense", "filter", "multivector", "sparse"})

    def __init__(
        self,
        place: Path | str,
        name: str,
        schema: VectorSchema,
        *,
        create: bool = False,
        exact: bool = False,
    ) -> None:
        """Open a collection.

        Args:
            place: A folder, ``:memory:``, or the URL of a server; its key comes from
                ``QDRANT_API_KEY``.
            name: Its name.
            schema: What it holds.
            create: Open it for writing, starting an empty one where there is none.
            exact: Have a server compare every vector instead of following its graph.

        Raises:
            CorruptStore: It is not there.
            IndexMismatch: It holds vectors of another dimension.
            BackendUnavailable: qdrant-client is not installed, or the server does not answer.
        """
        super().__init__(schema)
        self._place, self._name, self._exact = place, name, exact
        self._served = isinstance(place, str) and place != MEMORY
        with ExitStack() as opened:
            self._client = opened.enter_context(_client(place, writing=create))
            with _errors(place):
                exists = self._client.collection_exists(name)
                if create and not exists:
                    self._create()
                elif not exists:
                    raise CorruptStore(
                        f"the collection {name!r} is not at {str(place)!r}", fix=REBUILD
                    )
                self._check()
                if create and isinstance(place, Path):
                    _postpone_syncing(self._client, name)
                    opened.callback(_sync, place)
            # The last search that uses it, whose thread may outlive the generation, closes it.
            self._finalizer = weakref.finalize(self, opened.pop_all().close)

    def count(self) -> int:
        """Count the passages."""
        with _errors(self._place):
            return self._client.count(self._name, exact=True).count

    def close(self) -> None:
        """Release the files or the connection."""
        self._finalizer()

    @classmethod
    def collections(cls, url: str) -> list[str]:
        """Return the names of a server's collections."""
        with _client(url) as client, _errors(url):
            return [found.name for found in client.get_collections().collections]

    @classmethod
    def drop(cls, url: str, name: str) -> None:
        """Delete a collection of a server."""
        with _client(url) as client, _errors(url):
            client.delete_collection(name)

    def _create(self) -> None:
        from qdrant_client import models

        dense, multi, sparse = self.schema
        vectors = {"dense": models.VectorParams(size=dense, distance=models.Distance.COSINE)}
        if multi:
            vectors["multi"] = models.VectorParams(
                size=multi,
                distance=models.Distance.DOT,
                multivector_config=models.MultiVectorConfig(
                    comparator=models.MultiVectorComparator.MAX_SIM
                ),
            )
        self._client.create_collection(
            self._name,
            vectors_config=vectors,
            sparse_vectors_config={"sparse": models.SparseVectorParams()} if sparse else None,
        )

    def _check(self) -> None:
        params = self._client.get_collection(self._name).config.params
        vectors: Any = params.vectors
        found = VectorSchema(
            vectors["dense"].size,
            vectors["multi"].size if "multi" in vectors else 0,
            bool(params.sparse_vectors),
        )
        if found != self.schema:
            raise IndexMismatch(
                f"the collection {self._name!r} holds other vectors",
                expected=str(self.schema),
                found=str(found),
                mend=REBUILD,
            )

    def _add(
        self,
        rows: Rows,
        dense: Vectors,
        multi: Sequence[Vectors] | None,
        sparse: Sequence[Sparse] | None,
        payload: Sequence[Payload] | None,
    ) -> None:
        from qdrant_client import models

        longest = max(map(len, multi)) if multi else 0
        size = max(1, min(_BATCH, _NUMBERS // (self.schema.dense + longest * self.schema.multi)))
        for at in range(0, len(rows), size):
            part = slice(at, at + size)
            vectors: dict[str, Any] = {"dense": dense[part].tolist()}
            if multi is not None:
                vectors["multi"] = [tokens.tolist() for tokens in multi[part]]
            if sparse is not None:
                vectors["sparse"] = [_sparse(each) for each in sparse[part]]
            payloads = None if payload is None else [_payload(each) for each in payload[part]]
            batch = models.Batch(ids=rows[part].tolist(), vectors=vectors, payloads=payloads)
            with _errors(self._place):
                self._client.upsert(self._name, batch, wait=True)

    def _delete(self, rows: Rows) -> None:
        from qdrant_client import models

        for at in range(0, len(rows), self.id_limit):
            points: Any = rows[at : at + self.id_limit].tolist()
            with _errors(self._place):
                self._client.delete(self._name, models.PointIdsList(points=points), wait=True)

    def _search(self, vector: Vectors, k: int, within: Rows | None, where: Any) -> Ranked:
        return self._query("dense", vector.tolist(), k, within, where)

    def _search_multi(self, tokens: Vectors, k: int, within: Rows | None, where: Any) -> Ranked:
        return self._query("multi", tokens.tolist(), k, within, where)

    def _search_sparse(self, vector: Sparse, k: int, within: Rows | None, where: Any) -> Ranked:
        return self._query("sparse", _sparse(vector), k, within, where)

    def _query(self, using: str, query: Any, k: int, within: Rows | None, where: Any) -> Ranked:
        from qdrant_client import models

        must: list[Any] = [] if where is None else [where]
        # The embedded mode is always exact, and warns of being told how to search.
        how = models.SearchParams(hnsw_ef=_HNSW_EF, exact=self._exact) if self._served else None
        if within is not None:
            must.append(models.HasIdCondition(has_id=within.tolist()))
        with _errors(self._place):
            found = self._client.query_points(
                self._name,
                query=query,
                using=using,
                limit=k,
                query_filter=models.Filter(must=must) if must else None,
                search_params=how,
                with_payload=False,
            ).points
        return Ranked.of([point.id for point in found], [point.score for point in found])  # type: ignore[misc]

    def _compile(self, where: Filter) -> Any | None:
        found = predicate(where)
        return None if found is None else _condition(found)


def _condition(found: Predicate) -> Any:
    from qdrant_client import models

    if isinstance(found, Present):
        return _match("fields", found.key)
    if isinstance(found, Among):
        return _match(*found)
    if isinstance(found, Between):
        # Qdrant has no infinities.
        low = None if found.low == -float("inf") else found.low
        high = None if found.high == float("inf") else found.high
        return models.FieldCondition(key=found.key, range=models.Range(gte=low, lte=high))
    if isinstance(found, AllOf):
        return models.Filter(must=[_condition(part) for part in found.parts])
    if isinstance(found, AnyOf):
        return models.Filter(should=[_condition(part) for part in found.parts])
    return models.Filter(must_not=[_condition(found.part)])


def _match(key: str, text: str) -> "qdrant.FieldCondition":
    from qdrant_client import models

    return models.FieldCondition(key=key, match=models.MatchValue(value=text))


def _payload(metadata: Payload) -> dict[str, Any]:
    fields, texts, numbers = typed_payload(metadata)
    return {"fields": fields, **texts, **numbers}


def _sparse(vector: Sparse) -> "qdrant.SparseVector":
    from qdrant_client import models

    return models.SparseVector(indices=vector.indices.tolist(), values=vector.values.tolist())


@contextmanager
def _client(place: Path | str, *, writing: bool = False) -> "Generator[QdrantClient]":
    """Connect; a folder opened for reading is seen through links, as the client locks it."""
    try:
        from qdrant_client import QdrantClient
    except ImportError as error:
        raise BackendUnavailable(
            "the package 'qdrant-client' is not installed",
            install_hint="pip install 'retrail[qdrant]'",
        ) from error
    with ExitStack() as opened:
        if isinstance(place, Path):
            folder = place if writing else opened.enter_context(_linked(place))
            try:
                client = QdrantClient(path=str(folder), force_disable_check_same_thread=True)
            except _UNREADABLE as error:
                raise CorruptStore(
                    f"the dense index {str(place)!r} cannot be opened ({error})", fix=REBUILD
                ) from error
        elif place == MEMORY:
            client = QdrantClient(location=MEMORY)
        else:
            key = os.environ.get(_KEY)
            try:
                client = QdrantClient(url=place, api_key=key, check_compatibility=False, timeout=60)
            except ValueError as error:  # such as a port that is none
                raise _unavailable(place, error) from error
        opened.callback(client.close)
        yield client


@contextmanager
def _linked(folder: Path) -> Generator[Path]:
    if not (folder / "meta.json").exists():
        raise CorruptStore(f"the dense index {str(folder)!r} is missing", fix=REBUILD)
    view = Path(tempfile.mkdtemp(prefix="retrail-"))
    try:
        shutil.copyfile(folder / "meta.json", view / "meta.json")
        (view / "collection").symlink_to((folder / "collection").resolve())
        yield view
    finally:
        shutil.rmtree(view)


@contextmanager
def _errors(place: Path | str) -> Generator[None]:
    """Say what Qdrant or the way to it reports in our words."""
    from qdrant_client.common.client_exceptions import QdrantException
    from qdrant_client.http.exceptions import ApiException

    try:
        yield
    except (ApiException, QdrantException) as error:
        raise _unavailable(place, getattr(error, "source", error)) from error
    except (OSError, sqlite3.Error) as error:
        raise ConfigError(
            f"the dense index {str(place)!r} cannot be written ({error})",
            fix="free disk space and try again; what was encoded is kept",
        ) from error


def _unavailable(place: Path | str, reason: object) -> BackendUnavailable:
    said = without_key(reason, _KEY)
    return BackendUnavailable(
        f"the Qdrant server at {str(place)!r} does not answer as it should ({said})",
        install_hint=f"start it, or mend vector_url in settings.toml or {_KEY}",
    )


def _postpone_syncing(client: "QdrantClient", name: str) -> None:
    """Save a wait for the disk after each point; ``_sync`` waits once, before publishing."""
    local: Any = client._client
    local.collections[name].storage.storage.execute("PRAGMA synchronous = OFF")


def _sync(folder: Path) -> None:
    for path in folder.glob("collection/*/storage.sqlite"):
        with path.open("rb") as stored:
            os.fsync(stored.fileno())
