"""Dense retrieval: cosine over one vector a passage, in a persistent Chroma collection.

Chroma always receives our vectors; its own embedding functions are never used. A published
collection is read only. Filters arrive as row ids; a set larger than what Chroma should be asked
to carry is scored exactly on the memory-mapped vectors.
"""

import shutil
import weakref
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError, CorruptStore
from .encoder import Vectors
from .ranked import Ranked

_COLLECTION = "passages"
_HNSW = {"space": "ip", "ef_construction": 200, "ef_search": 200, "max_neighbors": 32}
_BATCH = 2_000
_ID_LIMIT = 5_000
"""Row ids sent to Chroma in one query."""


class DenseIndex:
    """A published collection, read only."""

    def __init__(self, folder: Path) -> None:
        """Open the collection in a folder."""
        if not (folder / "chroma.sqlite3").exists():
            raise CorruptStore(
                f"the dense index {str(folder)!r} is missing", fix="retrail doctor --rebuild"
            )
        client = _client(folder)
        # The last search that uses it, whose thread may outlive the generation, closes the files.
        self._finalizer = weakref.finalize(self, client.close)
        self._collection = client.get_collection(_COLLECTION, embedding_function=None)
        self._size = self._collection.count()

    def search(self, vector: Vectors, k: int, within: NDArray[np.int64] | None = None) -> Ranked:
        """Rank passages by cosine, at most k; ``within`` holds at most ``takes`` row ids."""
        k = min(k, self._size if within is None else len(within))
        if k < 1:
            return Ranked.empty()
        found = self._collection.query(
            query_embeddings=[vector.tolist()],
            n_results=k,
            ids=None if within is None else [str(row) for row in within],
            include=["distances"],
        )
        distances = (found["distances"] or [[]])[0]
        return Ranked.of([int(row) for row in found["ids"][0]], [1.0 - d for d in distances])

    @staticmethod
    def takes(within: NDArray[np.int64] | None) -> bool:
        """Say whether a candidate set may travel to Chroma as ids."""
        return within is None or len(within) <= _ID_LIMIT

    def close(self) -> None:
        """Release the files."""
        self._finalizer()


class DenseWriter:
    """Builds a collection in a fresh folder, from the one before if there is one."""

    def __init__(self, folder: Path, base: Path | None = None) -> None:
        """Start empty, or from a copy of ``base``."""
        self._folder = folder
        if base is not None and base.exists():
            shutil.copytree(base, folder)
        folder.mkdir(parents=True, exist_ok=True)
        with _writing(folder):
            self._client = _client(folder)
            try:
                self._collection: Any = self._client.get_or_create_collection(
                    _COLLECTION, embedding_function=None, configuration={"hnsw": _HNSW}
                )
            except BaseException:
                self._client.close()  # or Chroma would keep the folder open under its path
                raise

    def add(self, rows: Sequence[int], vectors: Vectors) -> Iterator[int]:
        """Add vectors by row id, yielding how many each batch held."""
        for at in range(0, len(rows), _BATCH):
            ids = [str(row) for row in rows[at : at + _BATCH]]
            with _writing(self._folder):
                self._collection.upsert(ids=ids, embeddings=vectors[at : at + _BATCH])
            yield len(ids)

    def remove(self, rows: Sequence[int]) -> None:
        """Remove passages by row id."""
        for at in range(0, len(rows), _BATCH):
            with _writing(self._folder):
                self._collection.delete(ids=[str(row) for row in rows[at : at + _BATCH]])

    def close(self) -> None:
        """Finish and release the files."""
        self._client.close()


@contextmanager
def _writing(folder: Path) -> Generator[None]:
    from chromadb.errors import ChromaError

    try:
        yield
    except ChromaError as error:
        raise ConfigError(
            f"the dense index {str(folder)!r} cannot be written ({error})",
            fix="free disk space and try again; what was encoded is kept",
        ) from error


def _client(folder: Path) -> Any:
    import chromadb
    from chromadb.config import Settings

    return chromadb.PersistentClient(
        str(folder), settings=Settings(anonymized_telemetry=False, allow_reset=False)
    )
