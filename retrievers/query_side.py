"""A trained query side: other vectors for queries, while the passages keep theirs.

A version's folder holds ``query_side.json`` and, by kind, ``query_adapter.npz`` (``adapter``:
square matrices ``dense`` and ``tokens``, applied from the right), ``query_encoder/`` (``encoder``:
a whole sentence-transformers model), ``drift.npz`` (``drift``: how far the queries of the version's
own model, which encodes passages as well, have moved from its parent's) or ``fusion.json``
(``fusion``: vectors are its parent's, see ``learned_fusion``). The json is written last: without it
a folder has no query side.

Drift compensation is QDC (arXiv 2506.00037): an index of model *s* is searched by model *t* with
``q' = E_t(q) - sum of the mean drifts of the versions s+1 … t``, normalised again.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple
from zipfile import BadZipFile

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..core.errors import CorruptStore, IndexMismatch
from .encoder import Encoded, Encoder, Vectors
from .learned_fusion import LearnedFusion, fusion_identity
from .onnx_encoder import TextEncoder

MANIFEST = "query_side.json"
ADAPTER = "query_adapter.npz"
ENCODER = "query_encoder"
DRIFT = "drift.npz"

PROMOTE_0 = "retrail models promote 0 serves the encoder of the settings again"


class Passages(NamedTuple):
    """What a query side needs of the encoder whose passage vectors are searched."""

    fingerprint: str
    """Identity of its vectors."""
    query: Callable[[str], Encoded]
    """Encodes one query as it does by itself; may load it only then."""


Load = Callable[[Path, str], TextEncoder]
"""Loads the model of a folder, whose fingerprint is the one given."""


class QuerySide(BaseModel):
    """What ``query_side.json`` says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    kind: Literal["adapter", "encoder", "drift", "fusion"]
    passages: str
    """Fingerprint of the encoder whose passage vectors this one's queries are for."""
    model: str = ""
    """Fingerprint of the model that encodes queries, if it is not that of the passages."""
    parent: int = Field(default=0, ge=0)
    """Version that a ``drift`` starts from, or whose vectors a ``fusion`` keeps; 0 if that is no
    version, or has no query side."""

    def save(self, folder: Path) -> None:
        """Finish a folder."""
        (folder / MANIFEST).write_text(self.model_dump_json(), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "QuerySide":
        """Read what a folder says.

        Raises:
            CorruptStore: The folder is unfinished or damaged.
        """
        try:
            return cls.model_validate_json((folder / MANIFEST).read_text(encoding="utf-8"))
        except (OSError, ValidationError, UnicodeDecodeError) as error:
            raise _damaged(folder / MANIFEST) from error


class QueryAdapter(NamedTuple):
    """A linear map of query vectors: ``q ↦ qW / ‖qW‖``."""

    dense: Vectors
    """Shape ``(dim, dim)``."""
    tokens: Vectors
    """Shape ``(token_dim, token_dim)``."""

    def map(self, query: Encoded) -> Encoded:
        """Return the vectors to search with."""
        return Encoded(_unit(query.dense @ self.dense), _unit(query.tokens @ self.tokens))

    def save(self, folder: Path) -> None:
        """Write the matrices."""
        np.savez(folder / ADAPTER, dense=self.dense, tokens=self.tokens)

    @classmethod
    def load(cls, folder: Path) -> "QueryAdapter":
        """Read the matrices.

        Raises:
            CorruptStore: The file is missing or damaged.
        """
        return cls(*_arrays(folder / ADAPTER))


class Drift(NamedTuple):
    """How far a model's query vectors have moved from its parent's, on average."""

    dense: Vectors
    """Shape ``(dim,)``."""
    tokens: Vectors
    """Shape ``(token_dim,)``."""

    def undo(self, query: Encoded) -> Encoded:
        """Return the vectors to search the passages of the model before with."""
        return Encoded(_unit(query.dense - self.dense), _unit(query.tokens - self.tokens))

    def save(self, folder: Path) -> None:
        """Write the means."""
        np.savez(folder / DRIFT, dense=self.dense, tokens=self.tokens)

    @classmethod
    def load(cls, folder: Path) -> "Drift":
        """Read the means.

        Raises:
            CorruptStore: The file is missing or damaged.
        """
        return cls(*_arrays(folder / DRIFT))


def load_model(folder: Path, fingerprint: str) -> Encoder:
    """Load the model of a query side.

    Raises:
        IndexMismatch: Its weights are not those that were registered.
    """
    return checked(Encoder.load(str(folder)), fingerprint)


def checked(encoder: Encoder, fingerprint: str) -> Encoder:
    """Return an encoder if it is the one that is meant.

    Raises:
        IndexMismatch: It is another.
    """
    if encoder.fingerprint != fingerprint:
        raise IndexMismatch(
            f"the weights of the model {encoder.name!r} changed since it was trained",
            expected=fingerprint,
            found=encoder.fingerprint,
            mend=PROMOTE_0,
        )
    return encoder


def query_encoder(
    folder: Path, passages: Passages | Encoder, load: Load = load_model
) -> Callable[[str], Encoded]:
    """Load a trained query side.

    Args:
        folder: A version's folder.
        passages: The encoder whose passage vectors are searched; a query side with a model of its
            own never asks it to encode.
        load: Loads that model.

    Raises:
        CorruptStore: The folder is unfinished or damaged.
        IndexMismatch: It was trained for the passages of another encoder.
    """
    side = QuerySide.read(folder)
    if side.kind == "drift":
        drift = _drift(folder, side, passages.fingerprint)
        moved = load(folder, side.model)
        return lambda query: drift.undo(moved.query(query))
    if side.passages != passages.fingerprint:
        raise _mismatch(folder, side.passages, passages.fingerprint)
    if side.kind == "fusion":
        LearnedFusion.read(folder)  # what is to serve must be whole
        beneath = folder.parent / f"{side.parent:04d}"
        return query_encoder(beneath, passages, load) if side.parent else passages.query
    if side.kind == "encoder":
        return load(folder / ENCODER, side.model).query
    adapter = QueryAdapter.load(folder)
    return lambda query: adapter.map(passages.query(query))


def identity(folder: Path) -> str:
    """Return the fingerprint of a query side: its model's, or a hash of its numbers."""
    side = QuerySide.read(folder)
    if side.model:
        return side.model
    if side.kind == "fusion":
        return fusion_identity(folder)
    return hashlib.blake2b((folder / ADAPTER).read_bytes(), digest_size=8).hexdigest()


def encoding_version(root: Path, version: str) -> str:
    """Return the version that gives a version's query vectors: itself, or what its fusion keeps.

    Args:
        root: The workspace.
        version: Reference of one with a query side, or empty.

    Returns:
        A reference; empty if the passages' encoder itself encodes queries.
    """
    side = QuerySide.read(root / version) if version else None
    if side is None or side.kind != "fusion":
        return version
    return Path(version).with_name(f"{side.parent:04d}").as_posix() if side.parent else ""


def _drift(folder: Path, side: QuerySide, wanted: str) -> Drift:
    """Add up the drifts from the model of the passages to this one's."""
    first, total = folder, Drift.load(folder)
    while side.passages != wanted:
        if not 0 < side.parent < int(folder.name):
            raise _mismatch(first, side.passages, wanted)
        folder = folder.parent / f"{side.parent:04d}"
        side, before = QuerySide.read(folder), Drift.load(folder)
        total = Drift(total.dense + before.dense, total.tokens + before.tokens)
    return total


def _arrays(path: Path) -> tuple[Vectors, Vectors]:
    try:
        # Opened here, as numpy leaves a damaged file open.
        with path.open("rb") as file, np.load(file) as stored:
            return stored["dense"], stored["tokens"]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise _damaged(path) from error


def _unit(vectors: Vectors) -> Vectors:
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.maximum(norms, 1e-12)).astype(np.float32)


def _mismatch(folder: Path, expected: str, found: str) -> IndexMismatch:
    return IndexMismatch(
        f"the query side in {str(folder)!r} was trained for other passage vectors",
        expected=expected,
        found=found,
        mend="retrail learn",
    )


def _damaged(path: Path) -> CorruptStore:
    return CorruptStore(f"{str(path)!r} is missing or damaged", fix=PROMOTE_0)
