"""Dense retrieval: one unit vector a passage, in the vector engine that the settings name.

Embedded engines keep a generation in its folder; on a server a generation is a collection, whose
name its manifest holds. Names start with a key of this machine and folder, so that a copy of a
workspace never drops what the original still serves.
"""

import hashlib
import platform
import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..core.errors import BackendUnavailable, CorruptStore
from ..core.settings import Settings
from .backends.base import VectorBackend, VectorSchema

PASSAGES = "passages"
"""The collection of an embedded engine."""

BEFORE_ENGINES = {
    "vector_backend": "chroma",
    "vector_url": "workspace",
    "collection": PASSAGES,
}
"""What manifests say that were written before there was a choice."""


def open_dense(folder: Path, settings: Settings, manifest: dict[str, Any]) -> VectorBackend:
    """Open the vectors of a published generation for reading."""
    engine = _engine(settings)
    place = settings.vector_url or folder
    return engine(place, manifest["collection"], VectorSchema(manifest["dim"]))


def new_dense(
    folder: Path, settings: Settings, collection: str, dim: int, base: Path | None = None
) -> VectorBackend:
    """Start a generation's vectors, embedded ones from a copy of ``base`` if there is one."""
    if settings.vector_url:
        return _engine(settings)(settings.vector_url, collection, VectorSchema(dim), create=True)
    if base is not None and base.exists():
        shutil.copytree(base, folder, ignore=shutil.ignore_patterns(".lock"))
    return _engine(settings)(folder, collection, VectorSchema(dim), create=True)


def collection_of(root: Path, settings: Settings, build: str) -> str:
    """Name the collection of a build, which is the name of its folder."""
    name = f"{_prefix(root)}{build.removesuffix('.building')}"
    return name if settings.vector_url else PASSAGES


def drop_dense(root: Path, settings: Settings, build: str) -> None:
    """Drop the collection of a build that failed; what a lost server keeps is swept later."""
    if settings.vector_url:
        with suppress(BackendUnavailable, CorruptStore):
            _engine(settings).drop(settings.vector_url, collection_of(root, settings, build))


def sweep_dense(root: Path, settings: Settings, kept: Collection[str]) -> None:
    """Drop this workspace's collections on a server, but for those kept.

    A server that is lost meanwhile takes nothing back that was published: the next sweep drops
    them.
    """
    with suppress(BackendUnavailable):
        for name in server_collections(root, settings):
            if name not in kept:
                _engine(settings).drop(settings.vector_url, name)


def server_collections(root: Path, settings: Settings) -> list[str]:
    """Return the names of this workspace's collections on its server; none without a server.

    Raises:
        BackendUnavailable: The server does not answer, or the package of its client is missing.
    """
    if not settings.vector_url:
        return []
    names = _engine(settings).collections(settings.vector_url)
    return [name for name in names if name.startswith(_prefix(root))]


def _prefix(root: Path) -> str:
    place = f"{platform.node()}:{root.resolve()}"
    return f"retrail-{hashlib.blake2b(place.encode(), digest_size=6).hexdigest()}-"


def _engine(settings: Settings) -> Any:
    if settings.vector_backend == "qdrant":
        from .backends.qdrant import QdrantBackend

        return QdrantBackend
    from .backends.chroma import ChromaBackend

    return ChromaBackend
