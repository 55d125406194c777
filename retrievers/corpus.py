"""The corpus: one SQLite file with every document, passage and metadata value. It is the truth.

Rows carry the generation in which they were born and died, so a search at a published generation
sees exactly the corpus of that moment while the next one is being staged beside it. Passages
partition their document's text; the document is their concatenation. Everything else on disk can
be rebuilt from here.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import RLock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.database import connect, sqlite_errors
from ..core.documents import Document, Passage, passage_id, split_passage_id
from ..core.errors import ConfigError, ToolError
from ..core.fields import FieldSpan, clip_fields, split_fields
from ..core.filters import Filter
from ..core.schema import FieldInfo, MetadataSchema
from .corpus_schema import CORPUS
from .filter_sql import compile_filter, register_functions

VISIBLE = "d.born <= :g AND (d.died IS NULL OR d.died > :g)"
"""Selects the documents ``d`` of generation ``:g``."""

MAX_VALUES = 300
"""Distinct values up to which a text field counts as a category."""

_FILTERS = 8
"""Filters whose passages are kept: 8 bytes for each, so 64 MB for a million passages at most."""

_BATCH = 500
"""Row ids a statement may name; SQLite bounds the number of parameters."""


class Published(NamedTuple):
    """A published generation of the index."""

    number: int
    base: str
    """The encoder that the settings named."""
    encoder: str
    """The encoder of the passages: the base, or a trained model inside the workspace."""
    fingerprint: str
    """Of the passages' encoder."""
    published_at: str
    query: str
    """The version whose query side encodes queries; empty if the passages' encoder does."""
    folder: int
    """The generation whose files in ``index/`` are read: this one, or one of the same passages."""

    @property
    def serving(self) -> str:
        """What encodes queries: the query side's version, else the passages' encoder."""
        return self.query or self.encoder

    @property
    def id(self) -> str:
        """Short identity of both sides for trajectories: ``name@fingerprint[+version]``."""
        side = f"+{Path(self.query).name}" if self.query else ""
        return f"{Path(self.encoder).name}@{self.fingerprint[:8]}{side}"


class Listed(NamedTuple):
    """One line of a list of documents."""

    id: str
    title: str
    url: str | None
    chars: int
    passages: int


class Corpus:
    """Read access to the documents of any generation that is still kept."""

    def __init__(self, path: Path) -> None:
        """Open the file, creating it if need be."""
        self.path = path
        self.lock = RLock()
        self.db = connect(path, CORPUS)
        register_functions(self.db)
        self._schemas: dict[int, MetadataSchema] = {}
        self._values: dict[int, dict[str, list[str]]] = {}
        self._admitted: dict[tuple[int, str], NDArray[np.int64]] = {}

    def close(self) -> None:
        """Close the file."""
        with self.lock:
            self.db.close()

    def rows(self, sql: str, parameters: Any = ()) -> list[Any]:
        """Run one statement and fetch everything, with our errors."""
        with self.lock, sqlite_errors(self.path):
            return self.db.execute(sql, parameters).fetchall()

    def published(self) -> Published | None:
        """Return the newest published generation, or None before the first."""
        rows = self.rows(
            "SELECT number, base, encoder, fingerprint, published_at, query, "
            "coalesce(folder, number) FROM generations ORDER BY number DESC LIMIT 1"
        )
        return Published(*rows[0]) if rows else None

    def counts(self, generation: int) -> tuple[int, int]:
        """Return the numbers of documents and passages of a generation."""
        sql = f"""SELECT count(DISTINCT d.id), count(p.id) FROM documents d
            LEFT JOIN passages p ON p.document = d.id WHERE {VISIBLE}"""
        documents, passages = self.rows(sql, {"g": generation})[0]
        return documents, passages

    def cut(self, generation: int, vectors: str) -> int | None:
        """Return how many passages of a generation are longer than what was read of them.

        Args:
            generation: Its number.
            vectors: Name of its vector files.

        Returns:
            None where some were encoded before this was noted.
        """
        # In this order: a look at every passage would take seconds of a million.
        sql = f"""SELECT 1 FROM encodings e INDEXED BY encodings_cut
            CROSS JOIN passages p ON p.hash = e.hash
            CROSS JOIN documents d ON d.id = p.document
            WHERE e.encoder = :e AND e.cut IS NOT 0 AND {VISIBLE}"""
        asked = {"g": generation, "e": vectors}
        if self.rows(f"{sql} AND e.cut IS NULL LIMIT 1", asked):
            return None
        return int(self.rows(f"SELECT count(*) FROM ({sql})", asked)[0][0])

    def field_names(self) -> list[str]:
        """Return the title, the body and every field that a document has had, as numbered."""
        return [name for (name,) in self.rows("SELECT name FROM field_names ORDER BY id")]

    def has_fields(self, generation: int) -> bool:
        """Say whether a document of a generation has fields."""
        sql = f"SELECT 1 FROM documents d WHERE d.fields IS NOT NULL AND {VISIBLE} LIMIT 1"
        return bool(self.rows(sql, {"g": generation}))

    def passages(self, ids: Sequence[int]) -> dict[int, Passage]:
        """Fetch passages by row id; ids that are gone are left out."""
        found: dict[int, Passage] = {}
        for i in range(0, len(ids), _BATCH):
            batch = [int(x) for x in ids[i : i + _BATCH]]
            marks = ",".join("?" * len(batch))
            for row in self.rows(f"{_PASSAGE} WHERE p.id IN ({marks})", batch):
                found[row[0]] = _passage(row)
        return found

    def open(self, identifier: str, generation: int) -> tuple[str, int | None]:
        """Resolve a document or passage id to ``(doc_id, n or None)``.

        Raises:
            ToolError: There is no such document or passage; the text names near matches.
        """
        doc_id, n = split_passage_id(identifier)
        for candidate, number in ((identifier, None), (doc_id, n)):
            document = self._row(candidate, generation)
            if document is not None and (number is None or self._has_passage(document[0], number)):
                return candidate, number
        near = self.rows(
            f"SELECT doc_id FROM documents d WHERE doc_id >= :p AND {VISIBLE} ORDER BY doc_id "
            "LIMIT 3",
            {"p": doc_id[:8], "g": generation},
        )
        names = ", ".join(repr(row[0]) for row in near) or "none"
        raise ToolError(
            f"there is no document or passage {identifier!r}",
            fix=f"use an id from a result list (near: {names})",
        )

    def passage_rows(self, doc_id: str, n: int | None, generation: int) -> NDArray[np.int64]:
        """Return the row ids of a document's passages, or of its n-th alone."""
        sql = f"""SELECT p.id FROM passages p JOIN documents d ON d.id = p.document
            WHERE d.doc_id = :doc AND {VISIBLE} AND p.n = coalesce(:n, p.n) ORDER BY p.id"""
        rows = self.rows(sql, {"doc": doc_id, "g": generation, "n": n})
        return np.array([row[0] for row in rows], np.int64)

    def document(self, doc_id: str, generation: int) -> Document:
        """Return a whole document, its text joined from its passages."""
        row = self._row(doc_id, generation)
        if row is None:
            raise ConfigError(f"there is no document {doc_id!r}", fix="check the id")
        texts = self.rows("SELECT text FROM passages WHERE document = ? ORDER BY n", (row[0],))
        text, fields = split_fields("".join(text for (text,) in texts), stored_fields(row[4]))
        return Document(
            id=doc_id,
            title=row[1],
            url=row[2],
            text=text,
            metadata=json.loads(row[3]),
            fields=fields,
        )

    def page(self, generation: int, *, after: str = "", limit: int) -> list[Listed]:
        """List documents by id, beginning after one."""
        sql = f"""SELECT d.doc_id, d.title, d.url,
                (SELECT coalesce(sum(length(text)), 0) FROM passages WHERE document = d.id),
                (SELECT count(*) FROM passages WHERE document = d.id)
            FROM documents d WHERE {VISIBLE} AND d.doc_id > :after
            ORDER BY d.doc_id LIMIT :limit"""
        rows = self.rows(sql, {"g": generation, "after": after, "limit": limit})
        return [Listed(*row) for row in rows]

    def window(self, doc_id: str, generation: int, first: int, last: int) -> list[Passage]:
        """Return the passages ``first`` to ``last`` of a document, those that exist."""
        sql = f"{_PASSAGE} WHERE d.doc_id = :doc AND {VISIBLE} AND p.n BETWEEN :a AND :b"
        rows = self.rows(
            sql + " ORDER BY p.n", {"doc": doc_id, "g": generation, "a": first, "b": last}
        )
        return [_passage(row) for row in rows]

    def candidates(self, where: Filter, generation: int) -> NDArray[np.int64]:
        """Resolve a filter to the sorted row ids of the passages it admits, the same for all.

        An agent asks with the same filter again and again: what it admitted last is kept.
        """
        key = (generation, json.dumps(where.to_json()))
        with self.lock:
            found = self._admitted.pop(key, None)
            self._admitted[key] = self._admits(where, generation) if found is None else found
            for oldest in list(self._admitted)[:-_FILTERS]:
                del self._admitted[oldest]
            return self._admitted[key]

    def _admits(self, where: Filter, generation: int) -> NDArray[np.int64]:
        sql, values = self._filtered("p.id AS id", "JOIN passages p ON p.document = d.id", where)
        # One text for all, as an object for each of a million rows takes a second to make.
        ((ids,),) = self.rows(
            f"SELECT group_concat(id) FROM ({sql})", [generation, generation, *values]
        )
        admitted = np.sort(np.fromstring(ids or "", dtype=np.int64, sep=","))
        admitted.flags.writeable = False
        return admitted

    def listed(
        self, where: Filter | None, generation: int, order_by: str | None, k: int
    ) -> list[int]:
        """Return the first passage of k admitted documents, ordered by a field (``-field``: down).

        Documents without the field come last; ties and no field follow the order of adding.
        """
        field = (order_by or "").removeprefix("-")
        down = "DESC" if (order_by or "").startswith("-") else "ASC"
        join = "JOIN passages p ON p.document = d.id AND p.n = 0"
        sql, values = self._filtered("p.id", join, where)
        if field:
            value = "(SELECT {} FROM metadata o WHERE o.document = d.id AND o.field = ? LIMIT 1)"
            number, text = value.format("o.number"), value.format("o.text")
            sql += f" ORDER BY {number} IS NULL AND {text} IS NULL, {number} {down}, {text} {down}"
            values = [*values, *[field] * 4]
        rows = self.rows(
            f"{sql}{',' if field else ' ORDER BY'} p.id LIMIT ?",
            [generation, generation, *values, k],
        )
        return [row[0] for row in rows]

    def metadata_of(
        self, where: Filter | None, generation: int, doc_ids: Sequence[str] | None = None
    ) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Yield ``(doc_id, title, metadata)`` of the documents a filter admits, in adding order."""
        sql, values = self._filtered("d.doc_id, d.title, d.metadata", "", where)
        if doc_ids is not None:
            sql += " AND d.doc_id IN (SELECT value FROM json_each(?))"
            values = [*values, json.dumps(list(doc_ids))]
        for row in self.rows(f"{sql} ORDER BY d.id", [generation, generation, *values]):
            yield row[0], row[1], json.loads(row[2])

    def schema(self, generation: int) -> MetadataSchema:
        """Return the metadata fields of a generation with their kinds, counts and examples."""
        with self.lock:
            if generation not in self._schemas:
                self._schemas = {generation: self._read_schema(generation)}
            return self._schemas[generation]

    def values(self, generation: int) -> dict[str, list[str]]:
        """Return the distinct values of each text field with at most ``MAX_VALUES`` of them."""
        with self.lock:
            if generation not in self._values:
                self._values = {generation: dict(self._read_values(generation))}
            return self._values[generation]

    def _read_values(self, generation: int) -> Iterator[tuple[str, list[str]]]:
        sql = f"""SELECT DISTINCT m.text FROM metadata m JOIN documents d ON d.id = m.document
            WHERE m.field = :f AND m.kind = 'string' AND {VISIBLE} LIMIT :n"""
        for field, info in self.schema(generation).fields.items():
            if "string" in info.kinds and field not in ("title", "url"):
                rows = self.rows(sql, {"f": field, "g": generation, "n": MAX_VALUES + 1})
                if len(rows) <= MAX_VALUES:
                    yield field, sorted(row[0] for row in rows)

    def forget_schema(self) -> None:
        """Drop what was cached of the schema, after a change."""
        with self.lock:
            self._schemas, self._values, self._admitted = {}, {}, {}

    def _read_schema(self, generation: int) -> MetadataSchema:
        fields: dict[str, FieldInfo] = {}
        sql = f"""SELECT m.field, group_concat(DISTINCT m.kind), count(DISTINCT m.document)
            FROM metadata m JOIN documents d ON d.id = m.document WHERE {VISIBLE}
            GROUP BY m.field ORDER BY m.field"""
        examples = f"""SELECT DISTINCT coalesce(m.text, m.number) FROM metadata m
            JOIN documents d ON d.id = m.document WHERE m.field = :f AND m.kind != 'empty'
            AND {VISIBLE} LIMIT 5"""
        for field, kinds, documents in self.rows(sql, {"g": generation}):
            shown = self.rows(examples, {"g": generation, "f": field})
            fields[field] = FieldInfo(
                kinds=tuple(sorted(set(kinds.split(",")) - {"empty"})),
                documents=documents,
                examples=tuple(str(value)[:60] for (value,) in shown),
            )
        return MetadataSchema(fields=fields)

    def _filtered(self, columns: str, join: str, where: Filter | None) -> tuple[str, list[Any]]:
        """Build the statement that selects from the documents a filter admits."""
        visible = VISIBLE.replace(":g", "?")
        sql, values = compile_filter(where) if where is not None else ("", [])
        admitted = f" AND d.id IN ({sql})" if sql else ""
        return f"SELECT {columns} FROM documents d {join} WHERE {visible}{admitted}", list(values)

    def _row(self, doc_id: str, generation: int) -> Any | None:
        rows = self.rows(
            f"SELECT d.id, d.title, d.url, d.metadata, d.fields FROM documents d "
            f"WHERE d.doc_id = :doc AND {VISIBLE}",
            {"doc": doc_id, "g": generation},
        )
        return rows[0] if rows else None

    def _has_passage(self, document: int, n: int) -> bool:
        sql = "SELECT 1 FROM passages WHERE document = ? AND n = ?"
        return bool(self.rows(sql, (document, n)))


_PASSAGE = """SELECT p.id, d.doc_id, p.n, p.start, d.title, p.text, d.url, d.metadata,
    d.fields
    FROM passages p JOIN documents d ON d.id = p.document"""


def _passage(row: Any) -> Passage:
    _, doc_id, n, start, title, text, url, metadata, fields = row
    return Passage(
        id=passage_id(doc_id, n),
        doc_id=doc_id,
        start=start,
        end=start + len(text),
        title=title,
        text=text,
        url=url,
        metadata=json.loads(metadata),
        fields=clip_fields(stored_fields(fields), start, start + len(text)),
    )


def stored_fields(value: str | None) -> tuple[FieldSpan, ...]:
    """Read the spans that a row of ``documents`` holds."""
    return tuple(FieldSpan(*span) for span in json.loads(value)) if value else ()
