"""The SQL of the trajectory store: functions on a connection whose caller holds the transaction.

Values travel as parameters; only the constants below and the conditions of ``where`` are SQL.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from ..core.errors import ConfigError
from ..core.trajectories import Status
from .feedback import read_feedback, write_feedback
from .records import StoredRun, StoredStep, moment, question_key
from .transfer import Outcome

MIN_PREFIX = 4
"""Characters of an id that may stand for it."""
_NEAR_MATCHES_AMONG = 1000

_UPSERT = """
    INSERT INTO trajectories
        (id, question, question_key, status, planner, caller, started_at, cited, seconds, header)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET
        question = excluded.question, question_key = excluded.question_key,
        status = excluded.status, planner = excluded.planner, caller = excluded.caller,
        started_at = excluded.started_at, cited = excluded.cited, seconds = excluded.seconds,
        header = excluded.header"""
_INSERT_STEP = """
    INSERT INTO steps (trajectory_id, position, n, opened, body) VALUES (?, ?, ?, ?, ?)"""
_SUMMARIES = """
    SELECT seq, id, question, status, planner,
        CASE WHEN json_valid(header) THEN json_extract(header, '$.agent.model') END,
        caller, started_at,
        (SELECT COUNT(*) FROM steps WHERE trajectory_id = id) AS steps,
        (SELECT COUNT(DISTINCT opened) FROM steps WHERE trajectory_id = id) AS opened,
        cited, seconds
    FROM trajectories{where} ORDER BY started_at DESC, seq DESC LIMIT ? OFFSET ?"""


class TrajectorySummary(BaseModel):
    """One line of the log."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seq: int
    """Its place in the order in which runs were stored."""
    id: str
    question: str
    status: Status
    planner: str
    model: str | None
    caller: str | None
    started_at: str
    """ISO 8601 in UTC: when the run began or, if it does not tell, was stored."""
    steps: int
    opened: int
    """Distinct documents opened."""
    cited: int
    """Distinct documents cited."""
    seconds: float

    @property
    def cursor(self) -> str:
        """Where a list goes on after this run."""
        return f"{self.started_at}~{self.seq:020d}"


class Texts(NamedTuple):
    """A run as it is stored: the JSON of its header, its steps and its feedback, in order."""

    header: str
    bodies: list[str]
    feedback: list[str]


def exists(db: sqlite3.Connection, trajectory_id: str) -> bool:
    """Whether a run is stored under this full id."""
    found = db.execute("SELECT 1 FROM trajectories WHERE id = ?", (trajectory_id,))
    return found.fetchone() is not None


def write_run(db: sqlite3.Connection, run: StoredRun) -> None:
    """Store a run, in the place of the one that has its id."""
    trajectory = run.trajectory
    db.execute("DELETE FROM steps WHERE trajectory_id = ?", (trajectory.id,))
    db.execute(
        _UPSERT,
        (
            trajectory.id,
            trajectory.question,
            question_key(trajectory.question),
            trajectory.status,
            trajectory.agent.planner,
            trajectory.agent.caller,
            moment(trajectory),
            _cited(run),
            trajectory.usage.seconds,
            run.header,
        ),
    )
    for step in run.steps:
        _insert_step(db, trajectory.id, step)
    write_feedback(db, trajectory.id, run.feedback)


def import_run(db: sqlite3.Connection, run: StoredRun, *, replace: bool) -> Outcome:
    """Store a run unless its id is taken, by the same content or by other; feedback adds up."""
    if exists(db, run.trajectory.id):
        stored = read_texts(db, run.trajectory.id)
        if run.is_same(stored.header, stored.bodies):
            new = write_feedback(db, run.trajectory.id, run.feedback)
            return "imported" if new else "already_there"
        if not replace:
            return "conflicts"
    write_run(db, run)
    return "imported"


def append_step(db: sqlite3.Connection, trajectory_id: str, step: StoredStep) -> None:
    """Add a step to a stored run that has none of its number."""
    if not exists(db, trajectory_id):
        raise unknown(db, trajectory_id)
    # A position is never below its n, so the index leaves only the later steps to look at.
    taken = db.execute(
        "SELECT 1 FROM steps WHERE trajectory_id = ? AND position >= ? AND n = ?",
        (trajectory_id, step.n, step.n),
    )
    if taken.fetchone():
        raise ConfigError(
            f"run {trajectory_id!r} already has a step {step.n}",
            fix="number the steps of a run 1, 2, 3, each once",
        )
    _insert_step(db, trajectory_id, step)


def _insert_step(db: sqlite3.Connection, trajectory_id: str, step: StoredStep) -> None:
    db.execute(_INSERT_STEP, (trajectory_id, step.position, step.n, step.opened, step.body))


def update_header(db: sqlite3.Connection, run: StoredRun) -> None:
    """Store a run's outcome and question; its steps and the time it began stay."""
    trajectory = run.trajectory
    db.execute(
        "UPDATE trajectories SET question = ?, question_key = ?, status = ?, cited = ?,"
        " seconds = ?, header = ? WHERE id = ?",
        (
            trajectory.question,
            question_key(trajectory.question),
            trajectory.status,
            _cited(run),
            trajectory.usage.seconds,
            run.header,
            trajectory.id,
        ),
    )


def read_texts(db: sqlite3.Connection, trajectory_id: str) -> Texts:
    """Read a run by its full id."""
    by_id = (trajectory_id,)
    row = db.execute("SELECT header FROM trajectories WHERE id = ?", by_id).fetchone()
    if row is None:
        raise unknown(db, trajectory_id)
    bodies = db.execute(
        "SELECT body FROM steps WHERE trajectory_id = ? ORDER BY position, seq", by_id
    )
    return Texts(row[0], [body for (body,) in bodies], read_feedback(db, trajectory_id))


def read_page(
    db: sqlite3.Connection, conditions: Mapping[str, object], *, after: int, limit: int
) -> list[tuple[int, str]]:
    """Read (seq, id) of the runs that meet the conditions, in the order in which they came."""
    text, values = where({"seq > ?": after, **conditions})
    return db.execute(
        f"SELECT seq, id FROM trajectories{text} ORDER BY seq LIMIT ?", (*values, limit)
    ).fetchall()


def find_completed(db: sqlite3.Connection, question: str, *, limit: int) -> list[str]:
    """Read the ids of the latest completed runs of a question."""
    rows = db.execute(
        "SELECT id FROM trajectories WHERE question_key = ? AND status = 'completed'"
        " ORDER BY started_at DESC, seq DESC LIMIT ?",
        (question_key(question), limit),
    )
    return [row_id for (row_id,) in rows]


def count_finished(db: sqlite3.Connection, after: int) -> tuple[int, int]:
    """Return the last number given to a finished run, or the mark, and how many follow it."""
    sql = "SELECT coalesce(max(n), ?), COUNT(*) FROM finished WHERE n > ?"
    return db.execute(sql, (after, after)).fetchone()


def finished_through(mark: int | None) -> dict[str, object]:
    """Make the condition for runs that had finished at a mark."""
    return {"id IN (SELECT trajectory_id FROM finished WHERE n <= ?)": mark}


def after_cursor(cursor: str | None) -> dict[str, object]:
    """Make the condition for what a list shows after the summary that has this cursor."""
    return {"started_at || '~' || printf('%020d', seq) < ?": cursor}


def criteria(status: Status | None, planner: str | None, question: str | None) -> dict[str, object]:
    """Make the conditions by which runs are listed and counted."""
    return {
        "status = ?": status,
        "planner = ?": planner,
        "instr(casefold(question), ?) > 0": None if question is None else question.casefold(),
    }


def summarise(
    db: sqlite3.Connection, conditions: Mapping[str, object], *, limit: int, offset: int
) -> list[TrajectorySummary]:
    """Summarise the runs that meet the conditions, the latest first."""
    text, values = where(conditions)
    rows = db.execute(_SUMMARIES.format(where=text), (*values, limit, offset))
    names = list(TrajectorySummary.model_fields)
    return [TrajectorySummary(**dict(zip(names, row, strict=True))) for row in rows]


def where(conditions: Mapping[str, object]) -> tuple[str, list[object]]:
    """Make the clause that holds when all conditions do, leaving out those without a value.

    >>> where({"status = ?": "failed", "caller = ?": None})
    (' WHERE status = ?', ['failed'])
    """
    given = {text: value for text, value in conditions.items() if value is not None}
    return (" WHERE " + " AND ".join(given) if given else "", list(given.values()))


def resolve(db: sqlite3.Connection, wanted: str) -> str:
    """Complete an id, or raise the ConfigError that helps to find the right one."""
    if exists(db, wanted):
        return wanted
    if len(wanted) < MIN_PREFIX:
        raise unknown(db, wanted)
    rows = db.execute(
        "SELECT id FROM trajectories WHERE id BETWEEN ? AND ? ORDER BY id LIMIT 4",
        (wanted, wanted + "\U0010ffff"),
    )
    matches: list[str] = [row_id for (row_id,) in rows]
    if len(matches) > 1:
        raise ConfigError(
            f"{wanted!r} is the beginning of several ids, such as {_quoted(matches)}",
            fix="give more characters",
        )
    if not matches:
        raise unknown(db, wanted)
    return matches[0]


def unknown(db: sqlite3.Connection, wanted: str) -> ConfigError:
    """Make the error for an id that is not there, naming those it may have been meant for."""
    rows = db.execute(
        "SELECT id FROM trajectories ORDER BY seq DESC LIMIT ?", (_NEAR_MATCHES_AMONG,)
    )
    starts: dict[str, str] = {row_id[: len(wanted)]: row_id for (row_id,) in rows}
    near = [starts[start] for start in get_close_matches(wanted, starts)]
    hint = f"did you mean {_quoted(near)}?" if near else "list the runs to see their ids"
    if len(wanted) < MIN_PREFIX:
        hint = f"give at least {MIN_PREFIX} characters of an id; {hint}"
    return ConfigError(f"there is no run {wanted!r}", fix=hint)


def _quoted(ids: Iterable[str]) -> str:
    return ", ".join(repr(each) for each in ids)


def _cited(run: StoredRun) -> int:
    answer = run.trajectory.answer
    return len({citation.doc_id for citation in answer.citations}) if answer else 0
