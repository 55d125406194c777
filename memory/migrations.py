"""The schema of ``trajectories.db``, version by version.

A migration that was released never changes; a later one amends it.
"""

import sqlite3

from ..core.database import Schema

TRAJECTORIES = Schema("trajectory store")


@TRAJECTORIES.migration
def create_trajectories(connection: sqlite3.Connection) -> None:
    """Version 1: the JSON of a run's header and of each step, beside what is searched by.

    ``seq`` is the order of insertion. ``position`` orders a run's steps: it is n, raised where an
    imported run lists its steps out of order, so that they come back as they were.
    """
    for statement in (
        """CREATE TABLE trajectories (
            seq INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            question TEXT NOT NULL,
            question_key TEXT NOT NULL,
            status TEXT NOT NULL,
            planner TEXT NOT NULL,
            caller TEXT,
            started_at TEXT NOT NULL,
            cited INTEGER NOT NULL,
            seconds REAL NOT NULL,
            header TEXT NOT NULL
        )""",
        """CREATE TABLE steps (
            seq INTEGER PRIMARY KEY,
            trajectory_id TEXT NOT NULL REFERENCES trajectories (id) ON DELETE CASCADE,
            position INTEGER NOT NULL,
            n INTEGER NOT NULL,
            opened TEXT,
            body TEXT NOT NULL
        )""",
        "CREATE INDEX steps_by_position ON steps (trajectory_id, position)",
        "CREATE INDEX trajectories_by_question ON trajectories (question_key, started_at)",
        "CREATE INDEX trajectories_by_start ON trajectories (started_at)",
    ):
        connection.execute(statement)


@TRAJECTORIES.migration
def create_feedback(connection: sqlite3.Connection) -> None:
    """Version 2: what people said of a run, beside it; ``key`` tells what is there already."""
    connection.execute(
        """CREATE TABLE feedback (
            seq INTEGER PRIMARY KEY,
            trajectory_id TEXT NOT NULL REFERENCES trajectories (id) ON DELETE CASCADE,
            key TEXT NOT NULL,
            body TEXT NOT NULL,
            UNIQUE (trajectory_id, key)
        )"""
    )


@TRAJECTORIES.migration
def number_finished(connection: sqlite3.Connection) -> None:
    """Version 3: the order in which runs finished, by which a learner counts what is new.

    A run is numbered once, when it is stored finished or first finishes. Numbers only grow, also
    when the last runs are purged, which ``seq`` does not promise.
    """
    number = """INSERT INTO finished (trajectory_id) SELECT new.id
        WHERE NOT EXISTS (SELECT 1 FROM finished WHERE trajectory_id = new.id)"""
    for statement in (
        """CREATE TABLE finished (
            n INTEGER PRIMARY KEY AUTOINCREMENT,
            trajectory_id TEXT NOT NULL UNIQUE REFERENCES trajectories (id) ON DELETE CASCADE
        )""",
        """INSERT INTO finished (trajectory_id)
            SELECT id FROM trajectories WHERE status != 'running' ORDER BY seq""",
        f"""CREATE TRIGGER finished_when_stored AFTER INSERT ON trajectories
            WHEN new.status != 'running' BEGIN {number}; END""",
        f"""CREATE TRIGGER finished_later AFTER UPDATE OF status ON trajectories
            WHEN new.status != 'running' BEGIN {number}; END""",
    ):
        connection.execute(statement)
