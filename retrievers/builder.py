"""Builder: from staged documents to a published generation.

Encode what is new (each text once, acknowledged batch by batch), build keyword, dense and layout in
a fresh folder, rename it into place, and only then tell the corpus. A process killed anywhere in
between leaves the old generation served and its work kept for the next run.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from secrets import token_hex
from typing import Any, NamedTuple

import numpy as np

from ..core.batches import batched
from ..core.errors import ConfigError, CorruptStore
from ..core.settings import Settings
from .corpus import VISIBLE, Corpus, Published
from .dense import DenseWriter
from .encoder import Encoded, Encoder
from .keyword import KeywordWriter
from .late import Layout
from .late_form import late_form
from .reading import Reading
from .snapshot import read_layout, read_manifest
from .staging import Encoding, Pending, Staging
from .token_reduction import reduced_documents
from .vectors import SAMPLE_TEXTS, Place, VectorFiles, VectorWriter, vectors_of

Progress = Callable[[str, int, int | None], None]
"""Called with a stage's name, what is done of it, and the total if known."""

FORMAT = 1
"""Version of the generation folder."""

MIN_DEAD_TOKENS = 100_000
"""Dead token vectors up to which compacting is not worth a copy; 40 MB by default."""

_KEEP_ENCODERS = 2
"""Encoders whose vectors are kept, so that a rollback need not encode again."""


class Built(NamedTuple):
    """A complete generation that is not served yet."""

    number: int
    folder: Path
    encoder: Encoder


def quiet(stage: str, done: int, total: int | None) -> None:
    """Report nothing."""


def built_from(settings: Settings) -> dict[str, Any]:
    """Return the settings an index depends on, as its manifest keeps them."""
    names = ("language", "max_tokens", "chunk_tokens", *Reading._fields)
    form = late_form(settings)
    return {name: getattr(settings, name) for name in names} | {
        "late_dim": form.dim,
        "late_codec": form.codec,
        "late_tokens": form.tokens,
    }


class Builder:
    """Builds and publishes generations of one workspace; the caller holds the write lock."""

    def __init__(self, root: Path, corpus: Corpus, staging: Staging, settings: Settings) -> None:
        """Work in the index folders of ``root``."""
        self.root = root
        self.corpus = corpus
        self.staging = staging
        self.settings = settings

    def build(self, encoder: Encoder, *, fresh: bool = False, progress: Progress = quiet) -> Built:
        """Encode what is new and build the staged generation aside; nothing serves it yet.

        Args:
            encoder: Would serve.
            fresh: Encode and build everything from nothing, beside what serves.
            progress: Is told about encoding and building.

        Raises:
            ConfigError: The disk is full or cannot be written; what was encoded is kept.
        """
        number = self.staging.generation
        for left in (self.root / "index").glob("*.building"):
            shutil.rmtree(left, ignore_errors=True)
        # A new name each time: Chroma does not open a path again where opening failed before.
        folder = self.root / "index" / f"{number}.{token_hex(4)}.building"
        try:
            files = self._new_files(encoder) if fresh else self._files(encoder)
            self._encode(encoder, files, progress)
            files = self._compacted(encoder, files)
            with ExitStack() as on_error:
                on_error.callback(shutil.rmtree, folder, ignore_errors=True)
                self._build(folder, encoder, files, number, fresh=fresh, progress=progress)
                on_error.pop_all()
        except OSError as error:
            reason = error.strerror or "its index cannot be copied"
            raise ConfigError(
                f"cannot write to {str(self.root)!r}, {reason}",
                fix="free disk space or mend the permissions, then try again; nothing is lost",
            ) from error
        return Built(number, folder, encoder)

    def publish(self, built: Built, query: str | None = None) -> int:
        """Make a built generation the one that is served; returns its number.

        Args:
            built: The generation.
            query: Its query side. By default the one that serves stays if its passages' encoder
                does: for those of another it would be meaningless.
        """
        final = self.root / "index" / str(built.number)
        shutil.rmtree(final, ignore_errors=True)  # of a process killed after its renaming
        built.folder.rename(final)
        encoder, before = built.encoder, self.corpus.published()
        if query is None:
            same = before is not None and before.fingerprint == encoder.fingerprint
            query = before.query if before and same else ""
        self.staging.publish(
            base=self.settings.encoder,
            encoder=encoder.name,
            fingerprint=encoder.fingerprint,
            query=query,
        )
        self._sweep(built.number)
        return built.number

    def discard(self, built: Built) -> None:
        """Delete a built generation, and its vectors unless a published one uses them."""
        shutil.rmtree(built.folder, ignore_errors=True)
        self._sweep(built.number - 1)

    def _files(self, encoder: Encoder) -> VectorFiles:
        """Choose the vectors of an encoder: those that serve, else its newest, else new ones."""
        published = self.corpus.published()
        folder = self._folder(published) if published else None
        served = read_manifest(folder) if folder else {}
        same = served.get("fingerprint") == encoder.fingerprint
        name = vectors_of(served) if same else self._newest(encoder.fingerprint)
        return self._named(name or self._key(encoder.fingerprint), encoder)

    def _new_files(self, encoder: Encoder) -> VectorFiles:
        """Start new vectors of an encoder, as those that serve must stay until they are ready."""
        name = f"{self._key(encoder.fingerprint)}.{self.staging.generation}"
        files = self._named(name, encoder)
        self.staging.forget(files.name)  # of a process killed before it published
        shutil.rmtree(files.folder, ignore_errors=True)
        return files

    def _named(self, name: str, encoder: Encoder) -> VectorFiles:
        folder, form = self.root / "vectors" / name, late_form(self.settings)
        return VectorFiles(folder, dim=encoder.dim, late_dim=form.dim, codec=form.codec)

    def _key(self, fingerprint: str) -> str:
        form = late_form(self.settings)
        # Stop words are left out before vectors are stored: those of another language do not fit.
        language = f"-{self.settings.language}" if form.tokens == "content" else ""
        return fingerprint + form.suffix + language

    def _newest(self, fingerprint: str) -> str | None:
        key = self._key(fingerprint)
        names = [path.name for path in (self.root / "vectors").glob(f"{key}*")]
        fitting = [name for name in names if name.partition(".")[0] == key]
        return max(fitting, key=lambda name: int(name.partition(".")[2] or 0), default=None)

    def _compacted(self, encoder: Encoder, files: VectorFiles) -> VectorFiles:
        """Copy what is alive to new files once most is dead; the old ones stay while they serve."""
        sql = f"""SELECT e.hash, e.row, e.offset, e.length FROM encodings e
            WHERE e.encoder = :e AND EXISTS (SELECT 1 FROM passages p JOIN documents d
                ON d.id = p.document WHERE p.hash = e.hash AND {VISIBLE}) ORDER BY e.row"""
        alive = self.corpus.rows(sql, {"e": files.name, "g": self.staging.generation})
        total = "SELECT coalesce(sum(length), 0) FROM encodings WHERE encoder = ?"
        (tokens,) = self.corpus.rows(total, (files.name,))[0]
        dead = tokens - sum(length for *_, length in alive)
        if dead <= max(tokens // 2, MIN_DEAD_TOKENS):
            return files
        target = self._new_files(encoder)
        places = files.compact(target, [Place(*place) for _, *place in alive])
        self.staging.encoded(
            target.name,
            [Encoding(row[0], *place) for row, place in zip(alive, places, strict=True)],
        )
        return target

    def _encode(self, encoder: Encoder, files: VectorFiles, progress: Progress) -> None:
        total = self.staging.count_pending(files.name)
        if not total:
            return
        writer = self._writer(files)
        try:
            pending = self.staging.pending(files.name)
            done = 0
            if writer.basis is None:
                done = self._encode_sample(encoder, writer, pending, total, progress)
            for window in batched(pending, encoder.batch_size * 64):
                for batch in batched(self._documents(encoder, [p.text for p in window]), 32):
                    self._acknowledge(writer, [(window[i], e) for i, e in batch])
                    done += len(batch)
                    progress("encoding", done, total)
        finally:
            writer.close()

    def _encode_sample(
        self,
        encoder: Encoder,
        writer: VectorWriter,
        pending: Iterator[Pending],
        total: int,
        progress: Progress,
    ) -> int:
        """Encode the first texts in memory, fit the basis to them, then write them."""
        sample = [item for _, item in zip(range(SAMPLE_TEXTS), pending, strict=False)]
        encoded: list[tuple[Pending, Encoded]] = []
        for i, vectors in self._documents(encoder, [item.text for item in sample]):
            encoded.append((sample[i], vectors))
            progress("encoding", len(encoded), total)
        writer.fit([vectors for _, vectors in encoded], centred=not encoder.multi_vector)
        self._acknowledge(writer, encoded)
        return len(encoded)

    def _documents(self, encoder: Encoder, texts: list[str]) -> Iterator[tuple[int, Encoded]]:
        form = late_form(self.settings)
        return reduced_documents(encoder, texts, form.tokens, self.settings.language)

    def _acknowledge(self, writer: VectorWriter, batch: list[tuple[Pending, Encoded]]) -> None:
        places = writer.append([vectors for _, vectors in batch])
        self.staging.encoded(
            writer.files.name,
            [Encoding(item.hash, *place) for (item, _), place in zip(batch, places, strict=True)],
        )

    def _writer(self, files: VectorFiles) -> VectorWriter:
        sql = "SELECT coalesce(max(row) + 1, 0), coalesce(max(offset + length), 0) FROM encodings"
        rows, tokens = self.corpus.rows(f"{sql} WHERE encoder = ?", (files.name,))[0]
        try:
            return VectorWriter(files, rows=rows, tokens=tokens)
        except CorruptStore:
            # The acknowledged vectors are gone; the texts are not.
            self.staging.forget(files.name)
            shutil.rmtree(files.folder, ignore_errors=True)
            raise

    def _build(
        self,
        folder: Path,
        encoder: Encoder,
        files: VectorFiles,
        number: int,
        *,
        fresh: bool,
        progress: Progress,
    ) -> None:
        folder.mkdir(parents=True)
        before = None if fresh else self.corpus.published()
        base = self._folder(before) if before else None
        layout = self._layout(files, number)
        np.savez(folder / "layout.npz", **layout._asdict())
        self._build_keyword(folder / "keyword", base, number, progress)
        same = before is not None and before.fingerprint == encoder.fingerprint
        self._build_dense(folder / "dense", base if same else None, files, layout, progress)
        manifest = built_from(self.settings) | {
            "format": FORMAT,
            "generation": number,
            "encoder": encoder.name,
            "encoder_id": encoder.id,
            "fingerprint": encoder.fingerprint,
            "vectors": files.name,
            "dim": encoder.dim,
            "passages": len(layout.ids),
        }
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")

    def _build_keyword(
        self, folder: Path, base: Path | None, number: int, progress: Progress
    ) -> None:
        writer = KeywordWriter(folder, self.settings.language, base and base / "keyword")
        condition = "d.born = :g AND d.died IS NULL" if base else VISIBLE
        sql = f"""SELECT p.id, d.title, p.text FROM passages p JOIN documents d
            ON d.id = p.document WHERE {condition} AND p.id > :after ORDER BY p.id LIMIT 2000"""
        if base:
            writer.remove(self._died(number))
        after, done = 0, 0
        while rows := self.corpus.rows(sql, {"g": number, "after": after}):
            writer.add(rows)
            after, done = rows[-1][0], done + len(rows)
            progress("keyword index", done, None)
        writer.commit()

    def _build_dense(
        self,
        folder: Path,
        base: Path | None,
        files: VectorFiles,
        layout: Layout,
        progress: Progress,
    ) -> None:
        writer = DenseWriter(folder, base and base / "dense")
        try:
            at = np.arange(len(layout.ids))
            if base:
                before = read_layout(base).ids
                writer.remove(np.setdiff1d(before, layout.ids).tolist())
                at = np.flatnonzero(~np.isin(layout.ids, before))
            vectors = files.dense() if len(at) else np.zeros((0, files.dim), np.float32)
            done = 0
            for part in np.array_split(at, max(1, len(at) // 2000)):
                for count in writer.add(layout.ids[part].tolist(), vectors[layout.rows[part]]):
                    done += count
                    progress("dense index", done, len(at))
        finally:
            writer.close()

    def _layout(self, files: VectorFiles, number: int) -> Layout:
        sql = f"""SELECT p.id, p.document, e.row, e.offset, e.length FROM passages p
            JOIN documents d ON d.id = p.document
            JOIN encodings e ON e.encoder = :e AND e.hash = p.hash
            WHERE {VISIBLE} ORDER BY p.id"""
        rows = self.corpus.rows(sql, {"g": number, "e": files.name})
        table = np.array(rows, dtype=np.int64).reshape(-1, len(Layout._fields))
        return Layout(*table.T.copy())

    def _died(self, number: int) -> list[int]:
        sql = """SELECT p.id FROM passages p JOIN documents d ON d.id = p.document
            WHERE d.died = ?"""
        return [row[0] for row in self.corpus.rows(sql, (number,))]

    def _folder(self, published: Published) -> Path | None:
        folder = self.root / "index" / str(published.folder)
        return folder if (folder / "manifest.json").exists() else None

    def _sweep(self, number: int) -> None:
        """Delete generations and vectors that no reader can still be asked for."""
        kept: set[str | None] = set()
        sql = "SELECT coalesce(folder, number) FROM generations WHERE number >= ?"
        read = {str(row[0]) for row in self.corpus.rows(sql, (number - 1,))}
        for folder in (self.root / "index").iterdir():
            if folder.name not in read:
                shutil.rmtree(folder, ignore_errors=True)
            else:
                with suppress(CorruptStore):
                    kept.add(vectors_of(read_manifest(folder)))
        sql = """SELECT fingerprint FROM generations GROUP BY fingerprint
            ORDER BY max(number) DESC LIMIT ?"""
        for (fingerprint,) in self.corpus.rows(sql, (_KEEP_ENCODERS,)):
            if not any(str(name).startswith(fingerprint) for name in kept):
                kept.add(self._newest(fingerprint))
        for folder in (self.root / "vectors").glob("*"):
            if folder.name not in kept:
                self.staging.forget(folder.name)
                shutil.rmtree(folder, ignore_errors=True)
