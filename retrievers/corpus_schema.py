"""Tables of ``corpus.db``, version by version; opening an older file brings it up to date.

What is written here once is never changed: a change is another migration.
"""

import sqlite3

from ..core.database import Schema

CORPUS = Schema("corpus")


@CORPUS.migration
def create_corpus(connection: sqlite3.Connection) -> None:
    """Version 1."""
    for statement in (
        """CREATE TABLE documents (
            id INTEGER PRIMARY KEY AUTOINCREMENT, doc_id TEXT NOT NULL, title TEXT NOT NULL,
            url TEXT, metadata TEXT NOT NULL, hash TEXT NOT NULL, source TEXT,
            born INTEGER NOT NULL, died INTEGER)""",
        "CREATE UNIQUE INDEX documents_alive ON documents (doc_id) WHERE died IS NULL",
        "CREATE INDEX documents_by_doc_id ON documents (doc_id)",
        "CREATE INDEX documents_dead ON documents (died) WHERE died IS NOT NULL",
        """CREATE TABLE passages (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            document INTEGER NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
            n INTEGER NOT NULL, start INTEGER NOT NULL, text TEXT NOT NULL, hash TEXT NOT NULL)""",
        "CREATE UNIQUE INDEX passages_by_document ON passages (document, n)",
        "CREATE INDEX passages_by_hash ON passages (hash)",
        """CREATE TABLE metadata (
            document INTEGER NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
            field TEXT NOT NULL, kind TEXT NOT NULL, text TEXT, number REAL)""",
        "CREATE INDEX metadata_by_document ON metadata (document)",
        "CREATE INDEX metadata_by_text ON metadata (field, kind, text, document)",
        "CREATE INDEX metadata_by_number ON metadata (field, kind, number, document)",
        """CREATE TABLE encodings (
            encoder TEXT NOT NULL, hash TEXT NOT NULL, row INTEGER NOT NULL,
            offset INTEGER NOT NULL, length INTEGER NOT NULL,
            PRIMARY KEY (encoder, hash)) WITHOUT ROWID""",
        """CREATE TABLE generations (
            number INTEGER PRIMARY KEY, base TEXT NOT NULL, encoder TEXT NOT NULL,
            fingerprint TEXT NOT NULL, published_at TEXT NOT NULL)""",
    ):
        connection.execute(statement)


@CORPUS.migration
def name_query_sides(connection: sqlite3.Connection) -> None:
    """Version 2: a generation may have a query side, and may read the files of an earlier one."""
    connection.execute("ALTER TABLE generations ADD COLUMN query TEXT NOT NULL DEFAULT ''")
    connection.execute("ALTER TABLE generations ADD COLUMN folder INTEGER")


@CORPUS.migration
def count_what_is_cut(connection: sqlite3.Connection) -> None:
    """Version 3: whether the end of a text was not read; not known of what is encoded already."""
    connection.execute("ALTER TABLE encodings ADD COLUMN cut INTEGER")


@CORPUS.migration
def name_fields(connection: sqlite3.Connection) -> None:
    """Version 4: documents may have fields; a field's number is what its tokens are marked with."""
    connection.execute("ALTER TABLE documents ADD COLUMN fields TEXT")
    connection.execute("CREATE TABLE field_names (id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
    connection.execute("INSERT INTO field_names VALUES (1, 'title'), (2, 'text')")


@CORPUS.migration
def find_what_is_cut(connection: sqlite3.Connection) -> None:
    """Version 5: what is cut is counted with each change; most corpora have little of it."""
    connection.execute("CREATE INDEX encodings_cut ON encodings (encoder) WHERE cut IS NOT 0")
