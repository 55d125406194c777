"""Builder: from staged documents to a published generation.

Encode what is new (see ``vector_build`` and ``sparse_build``), build keyword, dense and layout in a
fresh folder, rename it into place, and only then tell the corpus. A process killed anywhere in
between leaves the old generation served and its work kept for the next run.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from secrets import token_hex
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError, CorruptStore
from ..core.fields import clip_fields, part_texts
from ..core.settings import Settings
from .checkpoint import inside
from .corpus import VISIBLE, Corpus, Published, stored_fields
from .dense import collection_of, drop_dense, new_dense, sweep_dense
from .encoder import Encoder
from .first_stage import STAGES, Stage, build_stage, stage_of
from .keyword import KeywordWriter
from .late import Layout
from .late_form import late_form
from .progress import Progress, quiet
from .reading import Reading
from .snapshot import read_layout, read_manifest
from .sparse_build import SparseBuilder, SparseSource
from .staging import Staging, encoder_text
from .token_fields import check_weights
from .tokenizers import AUTO, identity_of, keyword_identity, keyword_tokenizer
from .vector_build import VectorBuilder
from .vectors import VectorFiles, vectors_of

FORMAT = 1
"""Version of the generation folder."""

_DENSE_BATCH = 2_000


_Row = tuple[int, str, str, int, str | None]
"""A passage: row id, title, text, first character, and its document's fields."""


class Built(NamedTuple):
    """A complete generation that is not served yet."""

    number: int
    folder: Path
    encoder: Encoder


def built_from(settings: Settings) -> dict[str, Any]:
    """Return the settings an index depends on, as its manifest keeps them."""
    read = ("language", "max_tokens", "chunk_tokens", *Reading._fields)
    names = (*read, "vector_backend", "sparse_encoder", "ragatouille")
    form = late_form(settings)
    return {name: getattr(settings, name) for name in names} | {
        "vector_url": "server" if settings.vector_url else "workspace",  # it may move
        "late_dim": form.dim,
        "late_codec": form.codec,
        "late_tokens": form.tokens,
        "encoder_tokenizer": identity_of(settings.encoder_tokenizer),
        **({} if settings.tokenizer == AUTO else {"tokenizer": identity_of(settings.tokenizer)}),
    }


class Builder:
    """Builds and publishes generations of one workspace; the caller holds the write lock."""

    def __init__(
        self,
        root: Path,
        corpus: Corpus,
        staging: Staging,
        settings: Settings,
        sparse: SparseSource | None = None,
    ) -> None:
        """Work in the index folders of ``root``."""
        self.root = root
        self.corpus = corpus
        self.staging = staging
        self.settings = settings
        self.vectors = VectorBuilder(root, staging, settings)
        self.sparse = SparseBuilder(staging, sparse or SparseSource(root, settings))

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
            served = {} if fresh else self._served()  # which may be what is damaged
            self._check(served)
            files = self.vectors.encode(encoder, served, progress, fresh=fresh)
            sparse = self.sparse.encode(served, progress, fresh=fresh)
            with ExitStack() as on_error:
                on_error.callback(shutil.rmtree, folder, ignore_errors=True)
                on_error.callback(drop_dense, self.root, self.settings, folder.name)
                self._build(folder, encoder, files, sparse, number, fresh=fresh, progress=progress)
                on_error.pop_all()
        except OSError as error:
            reason = error.strerror or "its index cannot be copied"
            raise ConfigError(
                f"cannot write to {str(self.root)!r}, {reason}",
                fix="free disk space or mend the permissions, then try again; nothing is lost",
            ) from error
        return Built(number, folder, encoder)

    def _check(self, served: Mapping[str, Any]) -> None:
        """Say before anything is encoded what would fail behind it."""
        keyword_tokenizer(keyword_identity(self.settings, served.get("tokenizer")))
        check_weights(self.settings, self.corpus.field_names())

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

    def _build(
        self,
        folder: Path,
        encoder: Encoder,
        files: VectorFiles,
        sparse: dict[str, Any],
        number: int,
        *,
        fresh: bool,
        progress: Progress,
    ) -> None:
        folder.mkdir(parents=True)
        before = None if fresh else self.corpus.published()
        base = self._folder(before) if before else None
        layout = self._layout(files, number, base)
        np.savez(folder / "layout.npz", **layout._asdict())
        built = read_manifest(base)["tokenizer"] if base else None
        cut_by = keyword_identity(self.settings, built)
        self._build_keyword(folder / "keyword", base, number, cut_by, progress)
        same = before is not None and before.fingerprint == encoder.fingerprint
        collection = collection_of(self.root, self.settings, folder.name)
        on_disk = base if same and not self.settings.vector_url else None
        self._build_dense(folder / "dense", collection, on_disk, files, layout, progress)
        self._build_plaid(folder / "plaid", base, number, progress)
        stage = stage_of(self.settings, len(layout.ids))
        self._build_stage(stage, folder / "first_stage", base, files, progress)
        manifest = built_from(self.settings) | {
            "format": FORMAT,
            "generation": number,
            "encoder": encoder.name,
            "encoder_id": encoder.id,
            "fingerprint": encoder.fingerprint,
            "vectors": files.name,
            "collection": collection,
            "dim": encoder.dim,
            "passages": len(layout.ids),
            "sparse": self.sparse.build(folder / "sparse", sparse, layout),
            "late_stage": stage,
            "tokenizer": cut_by,
        }
        if self.vectors.names:
            manifest["fields"] = self.vectors.names
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")

    def _build_keyword(
        self, folder: Path, base: Path | None, number: int, cut_by: str, progress: Progress
    ) -> None:
        fielded = bool(self.vectors.names)
        if base and bool(read_manifest(base)["fields"]) != fielded:
            base = None
        before, tokenizer = base and base / "keyword", keyword_tokenizer(cut_by)
        writer = KeywordWriter(folder, self.settings.language, before, tokenizer, fielded=fielded)
        if base:
            writer.remove(self._died(number))
        done = 0
        for rows in self._added(base, number):
            parts = {row[0]: _parts(*row) for row in rows} if fielded else None
            writer.add([row[:3] for row in rows], parts)
            done += len(rows)
            progress("keyword index", done, None)
        writer.commit()

    def _build_dense(
        self,
        folder: Path,
        collection: str,
        base: Path | None,
        files: VectorFiles,
        layout: Layout,
        progress: Progress,
    ) -> None:
        before = base and base / "dense"
        writer = new_dense(folder, self.settings, collection, files.dim, before)
        try:
            at = np.arange(len(layout.ids))
            if base:
                known = read_layout(base).ids
                writer.delete(np.setdiff1d(known, layout.ids))
                at = np.flatnonzero(~np.isin(layout.ids, known))
            vectors = files.dense() if len(at) else np.zeros((0, files.dim), np.float32)
            for done in range(0, len(at), _DENSE_BATCH):
                part = at[done : done + _DENSE_BATCH]
                writer.add(layout.ids[part], dense=vectors[layout.rows[part]])
                progress("dense index", done + len(part), len(at))
        finally:
            writer.close()

    def _build_stage(
        self, stage: Stage, folder: Path, base: Path | None, files: VectorFiles, progress: Progress
    ) -> None:
        if stage == "union":
            return
        before = read_manifest(base) if base else {}
        same = (before.get("late_stage"), vectors_of(before)) == (stage, files.name)
        sql = "SELECT offset, length FROM encodings WHERE encoder = ? AND row >= ? ORDER BY row"

        def places(first: int) -> NDArray[np.int64]:
            rows = self.corpus.rows(sql, (files.name, first))
            return np.array(rows, np.int64).reshape(-1, 2)

        build_stage(
            STAGES[stage], folder, base / "first_stage" if base and same else None, files, places
        )
        progress("late index", 1, 1)

    def _build_plaid(
        self, folder: Path, base: Path | None, number: int, progress: Progress
    ) -> None:
        if not self.settings.ragatouille:
            return
        from .plaid import build_plaid

        progress("PLAID index", 0, None)
        before = base / "plaid" if base and (base / "plaid").exists() else None
        added = (
            (row, encoder_text(title, text))
            for rows in self._added(before and base, number)
            for row, title, text, *_ in rows
        )
        model = inside(self.root, self.settings.ragatouille)
        died = self._died(number) if before else ()
        build_plaid(folder, before, model, added, died, self.settings.max_tokens)

    def _added(self, base: Path | None, number: int) -> Iterator[list["_Row"]]:
        """Read the passages that a generation has and the one before lacks."""
        condition = "d.born = :g AND d.died IS NULL" if base else VISIBLE
        sql = f"""SELECT p.id, d.title, p.text, p.start, d.fields FROM passages p
            JOIN documents d ON d.id = p.document
            WHERE {condition} AND p.id > :after ORDER BY p.id LIMIT 2000"""
        after = 0
        while rows := self.corpus.rows(sql, {"g": number, "after": after}):
            yield rows
            after = rows[-1][0]

    def _layout(self, files: VectorFiles, number: int, base: Path | None) -> Layout:
        """Point passages to their vectors; those of ``base`` as before if its files are these."""
        known = base if base and vectors_of(read_manifest(base)) == files.name else None
        condition = "d.born = :g AND d.died IS NULL" if known else VISIBLE
        sql = f"""SELECT p.id, p.document, e.row, e.offset, e.length FROM passages p
            JOIN documents d ON d.id = p.document
            JOIN encodings e ON e.encoder = :e AND e.hash = p.hash
            WHERE {condition} ORDER BY p.id"""
        rows = self.corpus.rows(sql, {"g": number, "e": files.name})
        table = np.array(rows, dtype=np.int64).reshape(-1, len(Layout._fields)).T
        if known:
            before = np.stack(read_layout(known))
            died = self.corpus.rows("SELECT id FROM documents WHERE died = ?", (number,))
            alive = ~np.isin(before[1], np.array(died, np.int64))
            table = np.concatenate([before[:, alive], table], axis=1)  # new ids are higher
        return Layout(*table.copy())

    def _died(self, number: int) -> list[int]:
        sql = """SELECT p.id FROM passages p JOIN documents d ON d.id = p.document
            WHERE d.died = ?"""
        return [row[0] for row in self.corpus.rows(sql, (number,))]

    def _folder(self, published: Published) -> Path | None:
        folder = self.root / "index" / str(published.folder)
        return folder if (folder / "manifest.json").exists() else None

    def _served(self) -> dict[str, Any]:
        """Return the manifest of what is published, empty if nothing is."""
        published = self.corpus.published()
        folder = self._folder(published) if published else None
        return read_manifest(folder) if folder else {}

    def _sweep(self, number: int) -> None:
        """Delete generations and vectors that no reader can still be asked for."""
        vectors, collections, sparse = set[str](), set[str](), set[str]()
        sql = "SELECT coalesce(folder, number) FROM generations WHERE number >= ?"
        read = {str(row[0]) for row in self.corpus.rows(sql, (number - 1,))}
        for folder in (self.root / "index").iterdir():
            if folder.name not in read:
                shutil.rmtree(folder, ignore_errors=True)
            else:
                with suppress(CorruptStore):
                    manifest = read_manifest(folder)
                    vectors.add(vectors_of(manifest))
                    collections.add(manifest["collection"])
                    sparse.add((manifest.get("sparse") or {}).get("files", ""))
        sweep_dense(self.root, self.settings, collections)
        self.sparse.sweep(sparse)
        self.vectors.sweep(vectors)


def _parts(_: int, title: str, text: str, start: int, fields: str | None) -> dict[str, str]:
    """Return what a passage says by field."""
    return part_texts(title, text, clip_fields(stored_fields(fields), start, start + len(text)))
