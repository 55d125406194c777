"""TrajectoryStore: every run of an agent, written as it happens and kept until it is purged.

Each step is committed before ``append`` returns, so a process killed at any moment loses nothing
it had observed. Several threads and processes may use one file at once: writers wait for each
other, readers never wait. Runs come back, and leave, exactly as they came.
"""

import json
import sqlite3
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from threading import RLock
from typing import Self

from ..core.database import connect, sqlite_errors, transaction
from ..core.errors import ConfigError, CorruptStore, WorkspaceLocked
from ..core.lines import write_lines
from ..core.trajectories import Answer, Feedback, Status, Step, Trajectory, Usage, Vote
from .feedback import new_feedback, write_feedback
from .migrations import TRAJECTORIES
from .queries import (
    Texts,
    TrajectorySummary,
    after_cursor,
    append_step,
    count_finished,
    criteria,
    exists,
    find_completed,
    finished_through,
    import_run,
    read_page,
    read_texts,
    resolve,
    summarise,
    update_header,
    where,
    write_run,
)
from .records import (
    StoredRun,
    as_utc,
    canonical,
    join,
    question_key,
    reason,
    store_feedback,
    store_step,
    to_object,
)
from .transfer import ImportReport, Line, Tally, read_lines


class TrajectoryStore:
    """The runs of one workspace, in one SQLite file.

    Use it as a context manager, or close it. All its errors are ``ConfigError`` (what was asked
    for, or the place of the file, must be mended) or ``CorruptStore`` (the file itself).
    """

    def __init__(self, path: Path) -> None:
        """Open the file, creating it and its folder, and bring it to the current version."""
        self.path = path
        self._lock = RLock()
        self._db = connect(path, TRAJECTORIES)
        self._db.create_function("casefold", 1, str.casefold, deterministic=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the store cannot be used any more."""
        with self._lock:
            self._db.close()

    def start(self, trajectory: Trajectory) -> None:
        """Store a new run, with the steps it may already have."""
        with _storable(trajectory.id):
            run = StoredRun.from_model(trajectory)
        with self._transaction(write=True) as db:
            if exists(db, trajectory.id):
                raise ConfigError(
                    f"run {trajectory.id!r} is already stored", fix="start it under a new id"
                )
            write_run(db, run)

    def append(self, trajectory_id: str, step: Step) -> None:
        """Add a step to a run; once this returns, a crash does not lose it."""
        with _storable(trajectory_id):
            row = store_step(to_object(step), step)
        with self._transaction(write=True) as db:
            append_step(db, trajectory_id, row)

    def finish(
        self,
        trajectory_id: str,
        *,
        status: Status,
        question: str | None = None,
        answer: Answer | None = None,
        usage: Usage | None = None,
    ) -> None:
        """Close a run with its outcome; what is not given stays as it was."""
        with self._transaction(write=True) as db, _storable(trajectory_id):
            outcome: dict[str, object] = {"status": status}
            outcome |= {} if question is None else {"question": question}
            outcome |= {} if answer is None else {"answer": to_object(answer)}
            outcome |= {} if usage is None else {"usage": to_object(usage)}
            header = json.loads(read_texts(db, trajectory_id).header)
            update_header(db, StoredRun.from_object({**header, **outcome}))

    def add_feedback(
        self,
        trajectory_id: str,
        vote: Vote,
        *,
        passage_id: str | None = None,
        comment: str | None = None,
    ) -> Feedback:
        """Keep what a person said of a run.

        Args:
            trajectory_id: the run, by its full id.
            vote: ``none`` takes back an earlier vote on the same.
            passage_id: a passage that the run saw; none for its answer as a whole.
            comment: why, in their words.
        """
        with self._transaction(write=True) as db, _storable(trajectory_id):
            run = self._parse(trajectory_id, read_texts(db, trajectory_id))
            given = new_feedback(run, passage_id, vote, comment)
            write_feedback(db, trajectory_id, [store_feedback(to_object(given), given)])
        return given

    def get(self, trajectory_id: str) -> Trajectory:
        """Read one run, by its id or four or more characters of its beginning."""
        return self._parse(*self._read(trajectory_id))

    def iterate(
        self,
        *,
        batch: int = 200,
        status: Status | None = None,
        question: str | None = None,
        since: datetime | None = None,
        through: int | None = None,
    ) -> Iterator[Trajectory]:
        """Read all runs in the order in which they were stored, holding one at a time.

        Args:
            batch: how many ids are looked up at once.
            status: only runs with this status.
            question: only runs whose question contains this, in any case.
            since: only runs that began then or later.
            through: only runs that had finished at this mark of ``finished``.
        """
        wanted = _conditions(status, question, since) | finished_through(through)
        for stored in self._stored(batch, wanted):
            yield self._parse(*stored)

    def find(self, question: str, limit: int = 3) -> list[Trajectory]:
        """Read the latest completed runs of the same question, but for case and punctuation."""
        with self._transaction() as db:
            ids = find_completed(db, question, limit=_at_least(0, "limit", limit))
            found = [(found_id, read_texts(db, found_id)) for found_id in ids]
        return [self._parse(*stored) for stored in found]

    def finished(self, after: int = 0) -> tuple[int, int]:
        """Count the runs that have finished since a mark, each once.

        Args:
            after: a mark, as this gave it before; 0 counts all.

        Returns:
            The mark of now, and how many there are.
        """
        with self._transaction() as db:
            return count_finished(db, after)

    def count(
        self,
        *,
        status: Status | None = None,
        planner: str | None = None,
        question: str | None = None,
    ) -> int:
        """Count the runs that ``list`` would show on all its pages."""
        text, values = where(criteria(status, planner, question))
        with self._transaction() as db:
            (total,) = db.execute(f"SELECT COUNT(*) FROM trajectories{text}", values).fetchone()
        return total

    def purge(
        self,
        *,
        older_than: datetime | None = None,
        question: str | None = None,
        caller: str | None = None,
        trajectory_id: str | None = None,
    ) -> int:
        """Delete the runs that meet all given criteria, leaving no trace of them in the file.

        Their feedback goes with them.

        Args:
            older_than: runs that began before.
            question: runs of this question, but for case and punctuation.
            caller: runs on behalf of this caller.
            trajectory_id: the one run of this full id.

        Returns:
            How many runs were deleted.
        """
        text, values = where(
            {
                "started_at < ?": None if older_than is None else _utc("older_than", older_than),
                "question_key = ?": None if question is None else question_key(question),
                "caller = ?": caller,
                "id = ?": trajectory_id,
            }
        )
        if not text:
            raise ConfigError(
                "nothing says which runs to purge", fix="give older_than, question or caller"
            )
        with self._transaction(write=True) as db:
            deleted = db.execute(f"DELETE FROM trajectories{text}", values).rowcount
        self._scrub()
        return deleted

    def import_lines(self, source: Path, *, replace: bool = False) -> ImportReport:
        """Store the runs of a file of JSON lines (plain or gzipped) as they are.

        Importing a file again changes nothing. Lines that cannot be used are skipped and reported.

        Args:
            source: the file.
            replace: whether a run replaces the one stored under its id, if the two differ.
        """
        return self.import_runs(read_lines(source), Tally(), replace=replace)

    def import_runs(
        self, runs: Iterable[Line], tally: Tally, *, replace: bool = False
    ) -> ImportReport:
        """Store runs as they are read from wherever they are; see ``memory.formats``.

        Args:
            runs: one at a time, or why there is none.
            tally: where they are counted.
            replace: whether a run replaces the one stored under its id, if the two differ.
        """
        for where_, run in runs:
            if isinstance(run, str):
                tally.add("skipped", f"{where_}: {run}")
                continue
            with self._transaction(write=True) as db:
                outcome = import_run(db, run, replace=replace)
            conflict = f"{where_}: {run.trajectory.id!r} is stored with other content"
            tally.add(outcome, conflict if outcome == "conflicts" else None)
        return tally.report()

    def export_lines(
        self,
        target: Path,
        *,
        ids: Iterable[str] | None = None,
        status: Status | None = None,
        question: str | None = None,
        since: datetime | None = None,
    ) -> int:
        """Write runs as JSON lines, gzipped if the name ends in ``.gz``; return how many.

        The file appears whole or not at all. Without ``ids``, the runs that ``iterate`` reads, in
        the order stored.
        """
        wanted = _conditions(status, question, since)
        stored = self._stored(200, wanted) if ids is None else map(self._read, ids)
        return write_lines(target, (canonical(join(*texts)) for _, texts in stored))

    @contextmanager
    def _transaction(self, *, write: bool = False) -> Generator[sqlite3.Connection]:
        with self._lock, sqlite_errors(self.path), transaction(self._db, write=write) as db:
            yield db

    def _read(self, trajectory_id: str) -> tuple[str, Texts]:
        with self._transaction() as db:
            full_id = resolve(db, trajectory_id)
            return full_id, read_texts(db, full_id)

    def _stored(self, batch: int, conditions: Mapping[str, object]) -> Iterator[tuple[str, Texts]]:
        last = 0
        limit = _at_least(1, "batch", batch)
        while True:
            with self._transaction() as db:
                page = read_page(db, conditions, after=last, limit=limit)
            if not page:
                return
            last, _ = page[-1]
            for _, trajectory_id in page:
                with self._transaction() as db:
                    # A run purged since its page was read is no longer ours to show.
                    kept = exists(db, trajectory_id)
                    texts = read_texts(db, trajectory_id) if kept else None
                if texts is not None:
                    yield trajectory_id, texts

    def _parse(self, trajectory_id: str, texts: Texts) -> Trajectory:
        try:
            return Trajectory.model_validate(join(*texts))
        except ValueError as error:
            raise CorruptStore(
                f"run {trajectory_id!r} in {str(self.path)!r} is damaged, {reason(error)}",
                fix="import it again with replace, or purge it",
            ) from error

    def _scrub(self) -> None:
        with self._lock, sqlite_errors(self.path):
            self._db.execute("VACUUM")
            (busy, *_) = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise WorkspaceLocked(
                f"the runs are deleted, but another process keeps {str(self.path)!r} from being"
                " cleaned of their text",
                fix="purge again when that process is done",
            )

    # Last in the class, whose other methods mean the builtin by this name.
    def list(
        self,
        *,
        limit: int = 50,
        offset: int = 0,
        status: Status | None = None,
        planner: str | None = None,
        question: str | None = None,
        after: str | None = None,
    ) -> list[TrajectorySummary]:
        """Summarise runs, the latest first.

        Args:
            limit: how many at most.
            offset: how many to pass over first.
            status: only runs with this status.
            planner: only runs of this planner.
            question: only runs whose question contains this, in any case.
            after: go on after the summary that has this cursor, whatever came or went since.
        """
        conditions = criteria(status, planner, question) | after_cursor(after)
        _at_least(0, "limit", limit)
        _at_least(0, "offset", offset)
        with self._transaction() as db:
            return summarise(db, conditions, limit=limit, offset=offset)


@contextmanager
def _storable(trajectory_id: str) -> Generator[None]:
    try:
        yield
    except ValueError as error:
        raise ConfigError(
            f"run {trajectory_id!r} cannot be stored, {reason(error)}",
            fix="record JSON values and valid Unicode text only",
        ) from error


def _conditions(
    status: Status | None, question: str | None, since: datetime | None
) -> dict[str, object]:
    began = None if since is None else _utc("since", since)
    return criteria(status, None, question) | {"started_at >= ?": began}


def _utc(name: str, when: datetime) -> str:
    if when.tzinfo is None:
        raise ConfigError(f"{name} {when.isoformat()!r} has no time zone", fix="give one, as UTC")
    return as_utc(when)


def _at_least(least: int, name: str, value: int) -> int:
    if value < least:
        raise ConfigError(f"{name} is {value}", fix=f"give {least} or more")
    return value
