"""Staging: documents on their way into the next generation.

Everything here is one SQLite transaction a call, so a process killed at any moment leaves whole
documents or none. What was staged stays until it is published; adding the same document again
finds it by its content hash and does nothing. One writer at a time, which the caller's lock holds.
"""

import hashlib
import json
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, NamedTuple

from ..core.database import sqlite_errors, transaction
from ..core.documents import Document, utc_now
from ..core.errors import ConfigError
from ..core.fields import FieldSpan, clip_fields, join_fields
from .chunker import chunk_parts
from .corpus import VISIBLE, Corpus
from .filter_sql import metadata_rows
from .token_fields import MAX_NAMES, read_parts

Outcome = Literal["added", "updated", "unchanged"]


class Pending(NamedTuple):
    """A text that an encoder has not seen yet."""

    hash: str
    text: str
    parts: tuple[FieldSpan, ...] = ()
    """What it has of each field, the title and the body among them."""


class Encoding(NamedTuple):
    """Where the vectors of a text lie in the encoder's vector files."""

    hash: str
    row: int
    offset: int
    length: int
    cut: bool | None = None
    """Whether its end was not read, if that is known."""


class Staging:
    """Write access to the corpus for the generation after the published one."""

    def __init__(self, corpus: Corpus, *, chunk_tokens: int, language: str) -> None:
        """Stage documents cut as the settings say."""
        self.corpus = corpus
        self.chunk_tokens = chunk_tokens
        self.language = language

    @property
    def generation(self) -> int:
        """The number of the generation being staged."""
        published = self.corpus.published()
        return published.number + 1 if published else 1

    def stage(self, documents: Sequence[Document], source: str | None = None) -> list[Outcome]:
        """Add or replace a batch of documents, all or none."""
        generation = self.generation
        with self._writing():
            return [self._stage(document, generation, source) for document in documents]

    def remove(self, doc_ids: Collection[str]) -> int:
        """Let documents die with the next generation; returns how many were alive."""
        generation = self.generation
        with self._writing():
            return sum(self._bury(doc_id, generation) for doc_id in doc_ids)

    def recut(self, document: Document) -> None:
        """Cut a living document again, as the settings now say; its source stays."""
        generation = self.generation
        with self._writing() as db:
            (source,) = db.execute(
                "SELECT source FROM documents WHERE doc_id = ? AND died IS NULL", (document.id,)
            ).fetchone()
            self._bury(document.id, generation)
            self._stage(document, generation, source)

    def alive(self, source: str) -> set[str]:
        """Return the ids of living documents that came from a source."""
        sql = "SELECT doc_id FROM documents WHERE died IS NULL AND source = ?"
        return {row[0] for row in self.corpus.rows(sql, (source,))}

    def changed(self) -> bool:
        """Say whether anything is staged that the published generation does not have."""
        sql = "SELECT 1 FROM documents WHERE born = :g OR died = :g LIMIT 1"
        return bool(self.corpus.rows(sql, {"g": self.generation}))

    def pending(self, encoder: str) -> Iterator[Pending]:
        """Yield each distinct text of the staged corpus that an encoder has not encoded."""
        sql = f"""SELECT p.hash, min(p.id) FROM passages p JOIN documents d ON d.id = p.document
            WHERE {VISIBLE} AND NOT EXISTS (
                SELECT 1 FROM encodings e WHERE e.encoder = :e AND e.hash = p.hash)
            GROUP BY p.hash ORDER BY p.hash"""
        keys = self.corpus.rows(sql, {"g": self.generation, "e": encoder})
        # Ordered by hash, a random order of texts: any prefix is a fair sample of the corpus.
        for text_hash, passage in keys:
            found = self.corpus.passages([passage])[passage]
            parts = read_parts(found.title, found.text, found.fields)
            yield Pending(text_hash, encoder_text(found.title, found.text), parts)

    def count_pending(self, encoder: str) -> int:
        """Return how many distinct texts an encoder has yet to see."""
        sql = f"""SELECT count(DISTINCT p.hash) FROM passages p
            JOIN documents d ON d.id = p.document WHERE {VISIBLE} AND NOT EXISTS (
                SELECT 1 FROM encodings e WHERE e.encoder = :e AND e.hash = p.hash)"""
        return self.corpus.rows(sql, {"g": self.generation, "e": encoder})[0][0]

    def encoded(self, encoder: str, encodings: Sequence[Encoding]) -> None:
        """Acknowledge vectors that are safely on disk."""
        with self._writing() as db:
            db.executemany(
                "INSERT OR REPLACE INTO encodings VALUES (?, ?, ?, ?, ?, ?)",
                [(encoder, *encoding) for encoding in encodings],
            )

    def forget(self, encoder: str) -> None:
        """Drop every acknowledgement of an encoder whose vector files are gone."""
        self.corpus.rows("DELETE FROM encodings WHERE encoder = ?", (encoder,))

    def publish(
        self,
        *,
        base: str,
        encoder: str,
        fingerprint: str,
        query: str = "",
        folder: int | None = None,
    ) -> int:
        """Make the staged generation the one that is read, and drop rows nobody can see.

        Args:
            base: See :class:`Published`, here and below.
            encoder: Of the passages.
            fingerprint: Its.
            query: Version of the query side, if there is one.
            folder: Number of the generation whose files are read, if it has none of its own.
        """
        generation = self.generation
        with self._writing() as db:
            db.execute(
                "INSERT INTO generations (number, base, encoder, fingerprint, published_at, query, "
                "folder) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (generation, base, encoder, fingerprint, utc_now(), query, folder),
            )
            # Readers may still be at the generation before; what it shows must stay.
            db.execute("DELETE FROM documents WHERE died < ?", (generation,))
        self.corpus.forget_schema()
        return generation

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with (
            self.corpus.lock,
            sqlite_errors(self.corpus.path),
            transaction(self.corpus.db, write=True) as db,
        ):
            yield db

    def _stage(self, document: Document, generation: int, source: str | None) -> Outcome:
        db = self.corpus.db
        digest = document.content_hash
        row = db.execute(
            "SELECT hash FROM documents WHERE doc_id = ? AND died IS NULL", (document.id,)
        ).fetchone()
        if row is not None and row[0] == digest:
            return "unchanged"
        if row is not None:
            self._bury(document.id, generation)
        text, spans = join_fields(document.text, document.fields)
        cursor = db.execute(
            "INSERT INTO documents (doc_id, title, url, metadata, hash, source, born, fields) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                document.id,
                document.title,
                document.url,
                json.dumps(document.metadata, ensure_ascii=False),
                digest,
                source,
                generation,
                json.dumps(spans) if spans else None,
            ),
        )
        self._name_fields(document)
        self._write_parts(document, text, spans, cursor.lastrowid or 0)
        return "updated" if row is not None else "added"

    def _name_fields(self, document: Document) -> None:
        if not document.fields:
            return
        db = self.corpus.db
        for name in document.fields:
            db.execute("INSERT OR IGNORE INTO field_names (name) VALUES (?)", (name,))
        (count,) = db.execute("SELECT count(*) FROM field_names").fetchone()
        if count > MAX_NAMES:
            raise ConfigError(
                f"document {document.id!r} brings the corpus to more than {MAX_NAMES} field names",
                fix="name fields by what they hold, and keep what differs in the metadata",
            )

    def _write_parts(
        self, document: Document, whole: str, fields: Sequence[FieldSpan], row: int
    ) -> None:
        db = self.corpus.db
        starts = [span.start for span in fields]
        spans = chunk_parts(whole, starts, tokens=self.chunk_tokens, language=self.language)
        db.executemany(
            "INSERT INTO passages (document, n, start, text, hash) VALUES (?, ?, ?, ?, ?)",
            (
                (row, n, span.start, text, text_hash(document.title, text, inside))
                for n, span in enumerate(spans)
                for text in (whole[span.start : span.end],)
                for inside in (clip_fields(fields, *span),)
            ),
        )
        values = {"title": document.title, "url": document.url} | document.metadata
        kept = {field: value for field, value in values.items() if value not in ("", None)}
        db.executemany(
            "INSERT INTO metadata VALUES (?, ?, ?, ?, ?)",
            [(row, *values) for values in metadata_rows(kept)],
        )

    def _bury(self, doc_id: str, generation: int) -> int:
        """Mark a living document dead; one staged but never published simply goes."""
        db = self.corpus.db
        gone = db.execute(
            "DELETE FROM documents WHERE doc_id = ? AND died IS NULL AND born = ?",
            (doc_id, generation),
        ).rowcount
        died = db.execute(
            "UPDATE documents SET died = ? WHERE doc_id = ? AND died IS NULL",
            (generation, doc_id),
        ).rowcount
        return gone + died


def encoder_text(title: str, text: str) -> str:
    """Return what the encoder reads of a passage: its document's title, then its text."""
    return f"{title}\n{text.strip()}" if title else text.strip()


def text_hash(title: str, text: str, fields: Sequence[FieldSpan] = ()) -> str:
    """Return the key under which a passage's vectors are kept, with the fields of their tokens."""
    read = encoder_text(title, text)
    key = read + "\0" + json.dumps(fields) if fields else read
    return hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
