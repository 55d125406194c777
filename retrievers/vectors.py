"""Vector files of one encoder: append-only, memory-mapped, shared by every generation.

``dense.f32`` holds one row a text; ``fields.u16``, where documents have fields, the number of each
token vector's field; ``tokens.*`` the token vectors of all texts end to end, reduced
by PCA on centred vectors (``basis.npz``, with the codec's tables), normalised again and compressed
by the codec that the suffix names. Only what the corpus database has acknowledged counts: a tail
left by a killed process is cut off by the next writer. Readers map the files as they are; appending
never moves what they see, and compacting writes other files.
"""

import os
import shutil
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np

from ..core.batches import batched
from ..core.errors import ConfigError, CorruptStore
from ..core.settings import LateCodec
from .append_only import append, mapped, reopen
from .codecs import CODECS, Codec, Stored, Tables
from .encoder import Encoded, Vectors
from .token_fields import Numbers

SAMPLE_TEXTS = 512
"""Texts whose token vectors fit the basis; they are the first ones, in random order."""

_SAMPLE_TOKENS = 100_000

DAMAGED = (OSError, ValueError, KeyError, EOFError, BadZipFile, RuntimeError, struct.error)
"""What numpy raises on a damaged ``.npz`` file."""

_COPIED = 512
"""Texts whose vectors are copied at once."""


class Place(NamedTuple):
    """Where the vectors of a text lie."""

    row: int
    """Of the dense vector."""
    offset: int
    """The first token."""
    length: int
    """How many tokens."""


class Basis(NamedTuple):
    """A projection of token vectors: centre, rotate onto the main axes, normalise."""

    mean: Vectors
    """Shape ``(token_dim,)``."""
    axes: Vectors
    """Shape ``(token_dim, late_dim)``, orthonormal columns."""

    def project(self, tokens: Vectors) -> Vectors:
        """Map ``(n, token_dim)`` to unit vectors ``(n, late_dim)``."""
        reduced = (tokens - self.mean) @ self.axes
        norms = np.linalg.norm(reduced, axis=1, keepdims=True)
        return reduced / np.maximum(norms, 1e-12)


def vectors_of(manifest: Mapping[str, Any]) -> str:
    """Name the folder of the vectors that a generation's layout points into.

    >>> vectors_of({"fingerprint": "ab12", "vectors": "ab12.7"}), vectors_of({"fingerprint": "c0"})
    ('ab12.7', 'c0')
    """
    return str(manifest.get("vectors", manifest.get("fingerprint")))


def fit_basis(matrices: Sequence[Vectors], dim: int, *, centred: bool = True) -> Basis:
    """Fit PCA to a sample of token vectors; a dimension above theirs keeps them whole.

    Args:
        matrices: Token vectors of texts.
        dim: Length of a projected vector.
        centred: Move the mean to the origin, which tells hidden states apart better. The cosines
            of a multi-vector model were trained as they are: without centring they survive.
    """
    sample = np.concatenate(matrices).astype(np.float32)
    if len(sample) > _SAMPLE_TOKENS:
        sample = sample[np.random.default_rng(0).permutation(len(sample))[:_SAMPLE_TOKENS]]
    mean = sample.mean(axis=0) * np.float32(centred)
    sample = sample - mean
    _, axes = np.linalg.eigh(sample.T @ sample)
    return Basis(mean, np.ascontiguousarray(axes[:, ::-1][:, :dim]))


class VectorFiles:
    """The three files of one encoder in one folder."""

    def __init__(
        self,
        folder: Path,
        *,
        dim: int,
        late_dim: int,
        codec: LateCodec = "fp16",
        fielded: bool = False,
    ) -> None:
        """Name the folder; nothing is read or created yet."""
        self.folder = folder
        self.dim = dim
        self.late_dim = late_dim
        self.codec_name: LateCodec = codec
        self.fielded = fielded

    @property
    def name(self) -> str:
        """The key under which the corpus database acknowledges what is in these files."""
        return self.folder.name

    @property
    def basis(self) -> Basis | None:
        """The projection, once it has been fitted."""
        stored = self._stored()
        return Basis(stored["mean"], stored["axes"]) if stored else None

    @property
    def codec(self) -> Codec:
        """What the token vectors are read with.

        Raises:
            CorruptStore: Its tables are missing or damaged.
        """
        return CODECS[self.codec_name](self._stored() or {})

    def _stored(self) -> dict[str, Vectors] | None:
        path = self.folder / "basis.npz"
        if not path.exists():
            return None
        wanted = {"mean", "axes", *CODECS[self.codec_name].tables}
        try:
            with np.load(path) as stored:
                return {name: stored[name] for name in wanted}
        except DAMAGED as error:
            raise CorruptStore(
                f"{str(path)!r} is damaged", fix="retrail doctor --rebuild re-encodes the corpus"
            ) from error

    def dense(self) -> Vectors:
        """Map the dense vectors, shape ``(rows, dim)``."""
        return mapped(self.folder / "dense.f32", np.dtype(np.float32), self.dim)

    def tokens(self, late_dim: int) -> Stored:
        """Map the stored tokens of ``late_dim`` dimensions, one a row."""
        codec = CODECS[self.codec_name]
        return mapped(self.tokens_path, codec.dtype, codec.columns(late_dim))

    def fields(self) -> Numbers:
        """Map the number of each token vector's field."""
        return mapped(self.fields_path, np.dtype(np.uint16), 1)[:, 0]

    @property
    def fields_path(self) -> Path:
        """The file of the token vectors' fields."""
        return self.folder / "fields.u16"

    @property
    def tokens_path(self) -> Path:
        """The file of the token vectors."""
        return self.folder / f"tokens.{CODECS[self.codec_name].suffix}"

    def compact(self, target: "VectorFiles", places: Sequence[Place]) -> list[Place]:
        """Copy the vectors of some texts into new files, durably; these files stay as they are.

        Args:
            target: Files of the same kind in a folder that holds none yet.
            places: What is still needed, as :meth:`VectorWriter.append` gave it.

        Returns:
            Where each lies in the new files.
        """
        target.folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.folder / "basis.npz", target.folder / "basis.npz")
        basis = self.basis
        dense, tokens = self.dense(), self.tokens(basis.axes.shape[1] if basis else self.late_dim)
        fields = self.fields() if self.fielded else None
        writer = VectorWriter(target, rows=0, tokens=0)
        found: list[Place] = []
        try:
            for batch in batched(places, _COPIED):
                found += writer.copy(dense, tokens, batch, fields)
        finally:
            writer.close()
        return found


def stored_files(vectors: Path, manifest: Mapping[str, Any]) -> VectorFiles:
    """Return the vector files that a generation's layout points into.

    Args:
        vectors: Holds the vector files of every encoder.
        manifest: Of the generation.
    """
    return VectorFiles(
        vectors / vectors_of(manifest),
        dim=manifest["dim"],
        late_dim=manifest["late_dim"],
        codec=manifest["late_codec"],
        fielded=bool(manifest["fields"]),
    )


class VectorWriter:
    """Appends encodings; what it returns is on disk and may be acknowledged."""

    def __init__(self, files: VectorFiles, *, rows: int, tokens: int) -> None:
        """Open for appending after the acknowledged ``rows`` and ``tokens``.

        Raises:
            CorruptStore: The files are shorter than what was acknowledged.
        """
        files.folder.mkdir(parents=True, exist_ok=True)
        self.files = files
        self.basis = files.basis
        if self.basis is None and rows:
            raise CorruptStore(
                f"{str(files.folder)!r} has lost its basis",
                fix="retrail doctor --rebuild re-encodes the corpus",
            )
        self.rows = rows
        self.tokens = tokens
        width = files.late_dim if self.basis is None else self.basis.axes.shape[1]
        codec = CODECS[files.codec_name]
        token_bytes = codec.columns(width) * codec.dtype.itemsize
        self._codec = files.codec if self.basis else None
        sizes = {
            files.folder / "dense.f32": rows * files.dim * 4,
            files.tokens_path: tokens * token_bytes,
        }
        if files.fielded:
            sizes[files.fields_path] = tokens * np.dtype(np.uint16).itemsize
        self._handles: list[int] = []
        try:
            for path, size in sizes.items():
                self._handles.append(reopen(path, size))
        except BaseException:
            self.close()
            raise

    def fit(self, sample: Sequence[Encoded], *, centred: bool = True) -> None:
        """Fit and keep the basis and the codec's tables; done once, before the first append."""
        tokens = [item.tokens for item in sample]
        self.basis = fit_basis(tokens, self.files.late_dim, centred=centred)
        codec = CODECS[self.files.codec_name]
        projected = np.concatenate([self.basis.project(item.tokens) for item in sample])
        tables: Tables = codec.fit(projected)
        path = self.files.folder / "basis.npz"
        temporary = path.with_name("basis.tmp.npz")
        kept: dict[str, Any] = {**self.basis._asdict(), **tables}
        np.savez(temporary, **kept)
        temporary.replace(path)
        self._codec = codec(tables)

    def append(self, batch: Sequence[Encoded], fields: Sequence[Numbers] = ()) -> Iterator[Place]:
        """Write a batch durably, then yield the place of each item.

        Args:
            batch: Vectors of texts.
            fields: Numbers of their token vectors' fields, where the files hold them.
        """
        if self.basis is None or self._codec is None:
            raise ConfigError("token vectors have no basis yet", fix="fit it before appending")
        dense = [item.dense.astype(np.float32) for item in batch]
        tokens = [self._codec.encode(self.basis.project(item.tokens)) for item in batch]
        yield from self._write(dense, tokens, fields)

    def copy(
        self,
        dense: Vectors,
        tokens: Stored,
        batch: Sequence[Place],
        fields: Numbers | None = None,
    ) -> list[Place]:
        """Write vectors of other files of the same basis durably; returns their places here."""
        spans = [slice(place.offset, place.offset + place.length) for place in batch]
        parts = [tokens[span] for span in spans]
        numbers = [] if fields is None else [fields[span] for span in spans]
        return list(self._write([dense[place.row] for place in batch], parts, numbers))

    def _write(
        self, dense: Sequence[Vectors], tokens: Sequence[Stored], fields: Sequence[Numbers]
    ) -> Iterator[Place]:
        for handle, items in zip(self._handles, (dense, tokens, fields), strict=False):
            append(handle, b"".join(item.tobytes() for item in items))
        for item in tokens:
            yield Place(self.rows, self.tokens, len(item))
            self.rows += 1
            self.tokens += len(item)

    def close(self) -> None:
        """Close the files."""
        while self._handles:
            os.close(self._handles.pop())
