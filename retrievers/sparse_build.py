"""Sparse building: from staged texts to the postings of a generation, nothing encoded twice.

Texts go through the model once and are acknowledged window by window; every generation inverts the
terms of what is alive in it. The model is loaded only when a text is new, and must then be the one
that encoded the others.
"""

import shutil
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np

from ..core.batches import batched
from ..core.errors import ConfigError, CorruptStore, IndexMismatch
from ..core.settings import Settings
from .append_only import RE_ENCODE
from .checkpoint import inside
from .corpus import VISIBLE
from .late import Layout
from .progress import Progress
from .sparse import Postings, SparseIndex
from .sparse_encoder import SparseModel, Terms
from .sparse_files import Span, SparseFiles, SparseWriter
from .sparse_query import StaticQueries, export_queries
from .staging import Encoding, Staging

MIN_DEAD_TERMS = 1_000_000
"""Dead terms up to which compacting is not worth a copy; 6 MB."""

_ACKNOWLEDGED = 512
"""Texts taken from the corpus at once; each window of the encoder is acknowledged by itself."""

_COPIED = 4096
"""Texts whose terms are copied at once."""


class SparseSource:
    """The sparse encoder that a workspace's settings name, loaded when first used."""

    def __init__(self, root: Path, settings: Settings) -> None:
        """Take the workspace's folder, where its terms are kept and its name may lead."""
        self.root = root
        self.settings = settings
        self._lock = RLock()
        self._model: SparseModel | None = None
        self._queries: tuple[str, Callable[[str], Terms]] | None = None

    @property
    def folder(self) -> Path:
        """Holds the files of every sparse encoder."""
        return self.root / "sparse"

    def model(self, fingerprint: str | None = None) -> SparseModel:
        """Return the encoder.

        Args:
            fingerprint: What it must have.

        Raises:
            ConfigError: It cannot be loaded.
            IndexMismatch: Its weights have changed.
        """
        name = self.settings.sparse_encoder
        with self._lock:
            if self._model is None or (fingerprint and fingerprint != self._model.fingerprint):
                self._model = self._load(name)  # again, as another process may have rebuilt
            if fingerprint not in (None, self._model.fingerprint):
                raise IndexMismatch(
                    f"the weights of sparse encoder {name!r} changed since the index was built",
                    expected=str(fingerprint),
                    found=self._model.fingerprint,
                    mend=RE_ENCODE,
                )
            return self._model

    def _load(self, name: str) -> SparseModel:
        precision = self.settings.precision
        return SparseModel.load(
            inside(self.root, name),
            name,
            max_tokens=self.settings.max_tokens,
            precision=precision if precision != "int8" else "auto",
        )

    def encode(self, query: str, card: Mapping[str, Any]) -> Terms:
        """Encode a query for the postings that a card describes; see :meth:`model`."""
        fingerprint = card["fingerprint"]
        with self._lock:
            if self._queries is None or self._queries[0] != fingerprint:
                kept = SparseFiles(self.folder / card["files"]).query
                ask = StaticQueries(kept) if card["static"] else self.model(fingerprint).query
                self._queries = (fingerprint, lru_cache(maxsize=256)(ask))
            ask = self._queries[1]
        return ask(query)


class SparseBuilder:
    """Builds the sparse part of one workspace's generations; the caller holds the write lock."""

    def __init__(self, staging: Staging, source: SparseSource) -> None:
        """Encode what is staged with what the settings name."""
        self.staging = staging
        self.corpus = staging.corpus
        self.source = source

    def encode(
        self,
        served: Mapping[str, Any],
        progress: Progress,
        *,
        fresh: bool,
    ) -> dict[str, Any]:
        """Encode each staged text that is new; returns what the manifest says of all.

        Args:
            served: The manifest of what is published; empty if nothing is, or for ``fresh``.
            progress: Is told how far it is.
            fresh: Encode everything, beside what serves.

        Raises:
            ConfigError: The encoder cannot be loaded or gives weights that are not finite.
            IndexMismatch: It is another than the one that encoded what is published.
            CorruptStore: What was encoded is gone; it is encoded again by the next attempt.
        """
        if not self.source.settings.sparse_encoder:
            return {}
        card = dict(served.get("sparse") or self._new_card(fresh=fresh))
        files = SparseFiles(self.source.folder / card["files"])
        if total := self.staging.count_pending(files.key):
            self._encode(self.source.model(card["fingerprint"]), files, total, progress)
        return self._compacted(card, files)

    def build(self, folder: Path, card: Mapping[str, Any], layout: Layout) -> dict[str, Any]:
        """Write the postings of what a layout lists; returns what the manifest says of them."""
        if not card:
            return {}
        files = SparseFiles(self.source.folder / card["files"])
        sql = f"""SELECT p.id, e.offset, e.length FROM passages p
            JOIN documents d ON d.id = p.document
            JOIN encodings e ON e.encoder = :e AND e.hash = p.hash
            WHERE {VISIBLE} ORDER BY p.id"""
        rows = self.corpus.rows(sql, {"g": self.staging.generation, "e": files.key})
        ids, offsets, lengths = np.array(rows, np.int64).reshape(-1, 3).T
        if not np.array_equal(ids, layout.ids):
            raise CorruptStore("the corpus lost track of sparse terms", fix=RE_ENCODE)
        terms, weights = files.read(offsets, lengths, card["terms"])
        postings = Postings.invert(lengths, terms, weights, card["terms"])
        return {**card, "passages": len(ids), "checksums": postings.save(folder)}

    def sweep(self, kept: Collection[str]) -> None:
        """Delete the files of encoders that no generation reads, by name."""
        for folder in self.source.folder.glob("*"):
            if folder.name not in kept:
                self._drop(SparseFiles(folder))

    def _new_card(self, *, fresh: bool) -> dict[str, Any]:
        """Start the files of an encoder, or go on where a first attempt was killed."""
        model = self.source.model()
        name = model.fingerprint + (f".{self.staging.generation}" if fresh else "")
        files = SparseFiles(self.source.folder / name)
        if fresh:
            self._drop(files)
        return {
            "fingerprint": model.fingerprint,
            "files": name,
            "terms": model.size,
            "static": export_queries(model, files.query),
        }

    def _encode(
        self,
        model: SparseModel,
        files: SparseFiles,
        total: int,
        progress: Progress,
    ) -> None:
        done = 0
        with self._writer(files) as writer:
            for batch in batched(self.staging.pending(files.key), _ACKNOWLEDGED):
                at = 0
                for window in model.documents([item.text for item in batch]):
                    hashes = [item.hash for item in batch[at : at + len(window)]]
                    self._acknowledge(files, hashes, writer.append(window))
                    at += len(window)
                    progress("sparse encoding", done + at, total)
                done += at

    def _writer(self, files: SparseFiles) -> SparseWriter:
        sql = "SELECT coalesce(max(offset + length), 0) FROM encodings WHERE encoder = ?"
        (end,) = self.corpus.rows(sql, (files.key,))[0]
        try:
            return SparseWriter(files, end)
        except CorruptStore:
            self.staging.forget(files.key)  # the acknowledged terms are gone; the texts are not
            raise

    def _acknowledge(self, files: SparseFiles, hashes: list[str], spans: list[Span]) -> None:
        found = [Encoding(h, 0, *span) for h, span in zip(hashes, spans, strict=True)]
        self.staging.encoded(files.key, found)

    def _compacted(self, card: dict[str, Any], files: SparseFiles) -> dict[str, Any]:
        """Copy what is alive to new files once most is dead; the old ones stay while they serve."""
        sql = f"""SELECT e.hash, e.offset, e.length FROM encodings e
            WHERE e.encoder = :e AND EXISTS (SELECT 1 FROM passages p JOIN documents d
                ON d.id = p.document WHERE p.hash = e.hash AND {VISIBLE}) ORDER BY e.offset"""
        alive = self.corpus.rows(sql, {"e": files.key, "g": self.staging.generation})
        total = "SELECT coalesce(sum(length), 0) FROM encodings WHERE encoder = ?"
        (terms,) = self.corpus.rows(total, (files.key,))[0]
        if terms - sum(row[2] for row in alive) <= max(terms // 2, MIN_DEAD_TERMS):
            return card
        name = f"{card['fingerprint']}.{self.staging.generation}"
        target = SparseFiles(files.folder.with_name(name))
        records = files.records(np.array([at + length for _, at, length in alive], np.int64))
        self._drop(target)  # of a process killed before it published
        with SparseWriter(target, 0) as writer:
            if card["static"]:
                shutil.copytree(files.query, target.query)
            for batch in batched(alive, _COPIED):
                spans = writer.copy([records[at : at + length] for _, at, length in batch])
                self._acknowledge(target, [row[0] for row in batch], spans)
        return card | {"files": name}

    def _drop(self, files: SparseFiles) -> None:
        self.staging.forget(files.key)
        shutil.rmtree(files.folder, ignore_errors=True)


def open_index(folder: Path, manifest: Mapping[str, Any], layout: Layout) -> SparseIndex:
    """Open the postings of a generation.

    Raises:
        ConfigError: It has none.
        CorruptStore: They are damaged.
    """
    card = manifest.get("sparse")
    if not card:
        raise ConfigError(
            "there is no sparse index",
            fix="set 'sparse_encoder' in settings.toml to a sparse encoder, then "
            "retrail doctor --rebuild",
        )
    return SparseIndex(folder / "sparse", layout, card)
