"""Vector building: the files of an encoder's vectors, from staged texts, nothing encoded twice.

Each text goes through the encoder once and is acknowledged batch by batch. Vectors that serve are
never changed: what replaces them, encoded afresh or compacted, is written beside them.
"""

import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..core.batches import batched
from ..core.errors import REBUILD, CorruptStore, IndexMismatch
from ..core.fields import BODY, TITLE
from ..core.settings import Settings
from .corpus import VISIBLE
from .encoder import Encoded, Encoder
from .late_form import late_form
from .precision import choose, is_int8, mark, passage_encoder, suits, verdict
from .progress import Progress
from .staging import Encoding, Pending, Staging
from .token_fields import Numbers, is_weighted, token_numbers, vector_numbers
from .token_reduction import reduced_documents
from .vectors import SAMPLE_TEXTS, Place, VectorFiles, VectorWriter, vectors_of
from .whole_texts import WholeTexts

MIN_DEAD_TOKENS = 100_000
"""Dead token vectors up to which compacting is not worth a copy; 40 MB by default."""

_SAMPLE_CHARACTERS = 2_000_000
"""Of long texts read whole fewer are the sample: their vectors are in memory together."""

_KEEP_ENCODERS = 2
"""Encoders whose vectors are kept, so that a rollback need not encode again."""


class _Encoded(NamedTuple):
    text: Pending
    vectors: Encoded
    fields: Numbers
    """Of its token vectors; none where they are not kept."""


class VectorBuilder:
    """Encodes what is staged in one workspace; the caller holds the write lock."""

    def __init__(self, root: Path, staging: Staging, settings: Settings) -> None:
        """Work in the folder ``vectors`` of ``root``."""
        self.names: list[str] = []
        self.root = root / "vectors"
        self.corpus = staging.corpus
        self.staging = staging
        self.settings = settings
        self.int8 = False
        """Whether int8 encodes the passages of what is built."""

    def encode(
        self, encoder: Encoder, served: Mapping[str, Any], progress: Progress, *, fresh: bool
    ) -> VectorFiles:
        """Encode each staged text that is new; returns the files that hold all of them.

        Args:
            encoder: Of the passages.
            served: The manifest of what is published; empty if nothing is.
            progress: Is told how far it is.
            fresh: Encode everything, beside what serves.

        Raises:
            ConfigError: Int8 is asked for and does not suit the encoder.
            CorruptStore: What was encoded is gone; it is encoded again by the next attempt.
            IndexMismatch: The settings ask for int8 and the index is not in it, or the reverse.
        """
        self.names = self._names(served)
        self.int8 = self._int8(encoder, {} if fresh else served, progress)
        files = self._new_files(encoder) if fresh else self._files(encoder, served)
        self._encode(encoder, files, progress)
        return self._compacted(encoder, files)

    def sweep(self, kept: Collection[str]) -> None:
        """Delete vectors that no generation reads, by name; those of the last encoders stay."""
        sql = """SELECT fingerprint FROM generations GROUP BY fingerprint
            ORDER BY max(number) DESC LIMIT ?"""
        staying: set[str | None] = {*kept}
        for (fingerprint,) in self.corpus.rows(sql, (_KEEP_ENCODERS,)):
            if not any(name.startswith(fingerprint) for name in kept):
                staying |= {self._newest(fingerprint, int8) for int8 in (False, True)}
        for folder in self.root.glob("*"):
            if folder.name not in staying:
                self.staging.forget(folder.name)
                shutil.rmtree(folder, ignore_errors=True)

    def _names(self, served: Mapping[str, Any]) -> list[str]:
        """Return the fields whose numbers are kept: none unless documents have some, or weights.

        Once they are kept they stay until everything is encoded afresh.
        """
        names = self.corpus.field_names()
        wanted = served.get("fields") or is_weighted(self.settings)
        # Names stay when the documents that had them go.
        had = set(names) != {TITLE, BODY}
        if wanted or (had and self.corpus.has_fields(self.staging.generation)):
            return names
        return []

    def _int8(self, encoder: Encoder, served: Mapping[str, Any], progress: Progress) -> bool:
        """Say whether int8 encodes the passages: as in what serves, else as is best."""
        if not served:
            everything = self.staging.count_pending("")
            return choose(encoder, everything, progress)
        held = is_int8(vectors_of(served))
        if served["fingerprint"] == encoder.fingerprint:
            if not suits(encoder.precision, held):
                raise IndexMismatch(
                    "the index was built with another 'precision' than the settings name",
                    expected=encoder.precision,
                    found="int8" if held else "float32 or bfloat16",
                    mend=f"{REBUILD}, or set it back in settings.toml",
                )
            return held
        if encoder.precision != "auto":
            return choose(encoder, 0, progress)
        for int8 in (held, not held):
            if self._newest(encoder.fingerprint, int8):
                return int8
        return held and "int8" not in verdict(encoder, progress).excluded

    def _files(self, encoder: Encoder, served: Mapping[str, Any]) -> VectorFiles:
        """Choose the vectors of an encoder: those that serve, else its newest, else new ones."""
        alike = bool(served.get("fields")) == bool(self.names)
        same = alike and served.get("fingerprint") == encoder.fingerprint
        name = vectors_of(served) if same else self._newest(encoder.fingerprint, self.int8)
        if same and name and not (self.root / name).exists():
            # Those that served are lost. Their layout must not be taken for that of new ones.
            name = self._new_name(encoder)
        return self._named(name or self._key(encoder.fingerprint, self.int8), encoder)

    def _new_name(self, encoder: Encoder) -> str:
        return f"{self._key(encoder.fingerprint, self.int8)}.{self.staging.generation}"

    def _new_files(self, encoder: Encoder) -> VectorFiles:
        """Start new vectors of an encoder, as those that serve must stay until they are ready."""
        files = self._named(self._new_name(encoder), encoder)
        self.staging.forget(files.name)  # of a process killed before it published
        shutil.rmtree(files.folder, ignore_errors=True)
        return files

    def _named(self, name: str, encoder: Encoder) -> VectorFiles:
        folder, form = self.root / name, late_form(self.settings)
        return VectorFiles(
            folder,
            dim=encoder.dim,
            late_dim=form.dim,
            codec=form.codec,
            fielded=bool(self.names),
        )

    def _key(self, fingerprint: str, int8: bool) -> str:
        form = late_form(self.settings)
        # Stop words are left out before vectors are stored: those of another language do not fit.
        language = f"-{self.settings.language}" if form.tokens == "content" else ""
        fields = "-fields" if self.names else ""
        return fingerprint + form.suffix + language + fields + mark(int8)

    def _newest(self, fingerprint: str, int8: bool) -> str | None:
        key = self._key(fingerprint, int8)
        names = [path.name for path in self.root.glob(f"{key}*")]
        fitting = [name for name in names if name.partition(".")[0] == key]
        return max(fitting, key=lambda name: int(name.partition(".")[2] or 0), default=None)

    def _compacted(self, encoder: Encoder, files: VectorFiles) -> VectorFiles:
        """Copy what is alive to new files once most is dead; the old ones stay while they serve."""
        alive = f"""FROM encodings e WHERE e.encoder = :e AND EXISTS (
            SELECT 1 FROM passages p JOIN documents d ON d.id = p.document
            WHERE p.hash = e.hash AND {VISIBLE})"""
        asked = {"e": files.name, "g": self.staging.generation}
        total = "SELECT coalesce(sum(length), 0) FROM encodings WHERE encoder = ?"
        (tokens,) = self.corpus.rows(total, (files.name,))[0]
        (used,) = self.corpus.rows(f"SELECT coalesce(sum(e.length), 0) {alive}", asked)[0]
        few = tokens - used <= max(tokens // 2, MIN_DEAD_TOKENS)
        if few or files.name == self._new_name(encoder):
            return files
        sql = f"SELECT e.hash, e.cut, e.row, e.offset, e.length {alive} ORDER BY e.row"
        rows = self.corpus.rows(sql, asked)
        target = self._new_files(encoder)
        places = files.compact(target, [Place(*place) for _, _, *place in rows])
        self.staging.encoded(
            target.name,
            [Encoding(row[0], *place, cut=row[1]) for row, place in zip(rows, places, strict=True)],
        )
        return target

    def _encode(self, encoder: Encoder, files: VectorFiles, progress: Progress) -> None:
        total = self.staging.count_pending(files.name)
        if not total:
            return
        source = passage_encoder(encoder, int8=self.int8, texts=total, progress=progress)
        writer = self._writer(files)
        try:
            pending = self.staging.pending(files.name)
            done = 0
            if writer.basis is None:
                centred = not encoder.multi_vector
                done = self._encode_sample(source, writer, pending, total, progress, centred)
            for window in batched(pending, encoder.batch_size * 64):
                for batch in batched(self._documents(source, window), 32):
                    self._acknowledge(source, writer, batch)
                    done += len(batch)
                    progress("encoding", done, total)
        finally:
            writer.close()

    def _encode_sample(
        self,
        source: WholeTexts,
        writer: VectorWriter,
        pending: Iterator[Pending],
        total: int,
        progress: Progress,
        centred: bool,
    ) -> int:
        """Encode the first texts in memory, fit the basis to them, then write them."""
        sample = _sample(pending, whole=source.reading.long_texts != "cut")
        encoded: list[_Encoded] = []
        for item in self._documents(source, sample):
            encoded.append(item)
            progress("encoding", len(encoded), total)
        writer.fit([item.vectors for item in encoded], centred=centred)
        self._acknowledge(source, writer, encoded)
        return len(encoded)

    def _documents(self, source: WholeTexts, items: Sequence[Pending]) -> Iterator[_Encoded]:
        form, texts = late_form(self.settings), [item.text for item in items]
        found = reduced_documents(source, texts, form.tokens, self.settings.language)
        for at, (vectors, labels) in found:
            fields = np.zeros(0, np.uint16)
            if self.names:
                spans = source.token_spans(texts[at], "document")
                numbers = token_numbers(spans, items[at].parts, self.names)
                fields = vector_numbers(numbers, labels, len(vectors.tokens))
            yield _Encoded(items[at], vectors, fields)

    def _acknowledge(
        self, source: WholeTexts, writer: VectorWriter, batch: Sequence[_Encoded]
    ) -> None:
        places = writer.append([item.vectors for item in batch], [item.fields for item in batch])
        encodings = [
            Encoding(item.text.hash, *place, cut=source.cuts(item.text.text))
            for item, place in zip(batch, places, strict=True)
        ]
        self.staging.encoded(writer.files.name, encodings)

    def _writer(self, files: VectorFiles) -> VectorWriter:
        sql = "SELECT coalesce(max(row) + 1, 0), coalesce(max(offset + length), 0) FROM encodings"
        rows, tokens = self.corpus.rows(f"{sql} WHERE encoder = ?", (files.name,))[0]
        try:
            return VectorWriter(files, rows=rows, tokens=tokens)
        except CorruptStore:
            # The acknowledged vectors are gone; the texts are not. The folder goes first: that it
            # is missing tells the next attempt, even where this one is killed.
            shutil.rmtree(files.folder, ignore_errors=True)
            self.staging.forget(files.name)
            raise


def _sample(pending: Iterator[Pending], *, whole: bool) -> list[Pending]:
    """Take the first texts; of those that are read whole, however long, not too many."""
    sample: list[Pending] = []
    read = 0
    for item in pending:
        sample.append(item)
        read += len(item.text) if whole else 0
        if len(sample) == SAMPLE_TEXTS or read >= _SAMPLE_CHARACTERS:
            break
    return sample
