"""The store's file: threads, processes and crashes, migrations, damage, and full disks."""

import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Timer

import pytest
from retrail.core.database import Schema, connect
from retrail.core.errors import ConfigError, CorruptStore, WorkspaceLocked
from retrail.core.trajectories import AgentInfo, Step, Trajectory
from retrail.memory import TrajectoryStore
from retrail.memory.migrations import TRAJECTORIES


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kb" / "trajectories.db"


@pytest.fixture
def store(path: Path):
    with TrajectoryStore(path) as opened:
        yield opened


def run(run_id: str, question: str = "Who wrote Dune?", **fields) -> Trajectory:
    return Trajectory(id=run_id, question=question, agent=AgentInfo(planner="rules"), **fields)


def search(n: int, **fields) -> Step:
    return Step(n=n, at="2026-11-20T09:00:00Z", action="search", **fields)


def test_threads_share_a_store(store: TrajectoryStore):
    store.start(run("shared"))

    def work(worker: int) -> None:
        store.start(run(f"own-{worker}"))
        for n in range(25):
            store.append("shared", search(worker * 25 + n))
            assert store.get(f"own-{worker}").id == f"own-{worker}"

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert [step.n for step in store.get("shared").steps] == list(range(200))
    assert store.count() == 9


WRITER = """
import sys
from pathlib import Path
from retrail.core.errors import ConfigError
from retrail.core.trajectories import AgentInfo, Step, Trajectory
from retrail.memory import TrajectoryStore

path, name, first, stride, count = sys.argv[1:]
sys.stdin.readline()
with TrajectoryStore(Path(path)) as store:
    for run_id in ("shared", name):
        try:
            store.start(Trajectory(id=run_id, question="q", agent=AgentInfo(planner="rules")))
        except ConfigError:
            assert run_id == "shared"  # the other was first
    for i in range(int(count)):
        n = int(first) + i * int(stride)
        step = Step(n=n, at="2026-11-20T09:00:00Z", action="search", thought="x" * 3000)
        store.append("shared", step)
        sys.stdout.write(f"{n}\\n")
        sys.stdout.flush()
"""


def writer(path: Path, name: str, first: int, stride: int, count: int) -> subprocess.Popen[str]:
    arguments = [str(path), name, str(first), str(stride), str(count)]
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_two_processes_create_and_write_at_once_and_lose_nothing(path: Path):
    both = [writer(path, f"own-{first}", first, 2, 150) for first in (1, 2)]
    for process in both:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in both:
        process.communicate()
    assert [process.returncode for process in both] == [0, 0]
    with TrajectoryStore(path) as store:
        assert [step.n for step in store.get("shared").steps] == list(range(1, 301))
        assert {each.id for each in store.iterate()} == {"shared", "own-1", "own-2"}


def test_opening_waits_for_a_process_that_is_creating_the_file(path: Path):
    path.parent.mkdir()
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    release = Timer(0.3, other.execute, ["ROLLBACK"])
    release.start()
    with TrajectoryStore(path) as store:
        store.start(run("r1"))
        assert store.count() == 1
    release.join()
    other.close()


def test_a_killed_process_keeps_every_acknowledged_step(path: Path):
    process = writer(path, "own", 1, 1, 1_000_000)
    assert process.stdin
    assert process.stdout
    process.stdin.write("go\n")
    process.stdin.flush()
    acknowledged = [int(process.stdout.readline()) for _ in range(40)]
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate()
    acknowledged += [int(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")]
    assert process.returncode == -signal.SIGKILL
    with TrajectoryStore(path) as store:
        read = store.get("shared")
        stored = [step.n for step in read.steps]
        assert read.status == "running"
        assert stored == list(range(1, len(stored) + 1))
        assert stored[: len(acknowledged)] == acknowledged
        store.append("shared", search(len(stored) + 1))


def test_a_file_that_is_no_database(path: Path):
    path.parent.mkdir()
    path.write_text("question,answer\n" * 100, encoding="utf-8")
    with pytest.raises(CorruptStore, match="is not a SQLite database: restore"):
        TrajectoryStore(path)
    assert path.read_text(encoding="utf-8").startswith("question")


def test_a_damaged_database(path: Path):
    with TrajectoryStore(path) as store:
        for n in range(50):
            store.start(run(f"r{n}", "question " * 500))
    content = path.read_bytes()
    path.write_bytes(content[:8192] + b"\xff" * (len(content) - 8192))
    with pytest.raises(CorruptStore, match=r"is damaged.*restore"), TrajectoryStore(path) as store:
        list(store.iterate())


def test_another_programs_database_is_left_alone(path: Path):
    path.parent.mkdir()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE recipes (text TEXT)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(CorruptStore, match="not a trajectory store: give another path"):
        TrajectoryStore(path)
    assert path.read_bytes() == before


def test_a_damaged_run_is_named(store: TrajectoryStore):
    store.start(run("r1"))
    store._db.execute("UPDATE trajectories SET header = '{'")
    with pytest.raises(CorruptStore, match=r"'r1' in .* is damaged, not JSON.*import it again"):
        store.get("r1")


def test_a_newer_file_is_refused(path: Path):
    with TrajectoryStore(path) as store:
        store._db.execute("PRAGMA user_version = 99")
    with pytest.raises(CorruptStore, match="has version 99, this retrail knows 3: upgrade"):
        TrajectoryStore(path)


def test_a_file_is_brought_to_the_next_version(path: Path, store: TrajectoryStore):
    store.start(run("r1", steps=[search(1)]))
    store.close()
    newer = Schema("trajectory store", TRAJECTORIES.migrations)
    calls = []

    @newer.migration
    def add_rating(connection: sqlite3.Connection) -> None:
        calls.append(1)
        connection.execute("ALTER TABLE trajectories ADD COLUMN rating INTEGER DEFAULT 5")

    for _ in range(2):
        connection = connect(path, newer)
        assert connection.execute("SELECT id, rating FROM trajectories").fetchall() == [("r1", 5)]
        assert connection.execute("PRAGMA user_version").fetchone() == (4,)
        connection.close()
    assert calls == [1]
    with pytest.raises(CorruptStore, match="has version 4"):
        TrajectoryStore(path)


def test_a_migration_that_fails_changes_nothing(path: Path, store: TrajectoryStore):
    store.start(run("r1"))
    store.close()
    newer = Schema("trajectory store", TRAJECTORIES.migrations)

    @newer.migration
    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("DROP TABLE steps")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        connect(path, newer)
    with TrajectoryStore(path) as reopened:
        assert reopened.get("r1") == run("r1")


def test_settings_that_durability_and_purging_rest_on(store: TrajectoryStore):
    found = {
        name: store._db.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete", "busy_timeout")
    }
    assert found == {
        "journal_mode": "wal",
        "synchronous": 1,
        "foreign_keys": 1,
        "secure_delete": 1,
        "busy_timeout": 10_000,
    }


def test_a_full_disk_loses_only_the_step_that_did_not_fit(store: TrajectoryStore):
    store.start(run("r1"))
    (pages,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count = {pages + 3}")
    store.append("r1", search(1))
    with pytest.raises(ConfigError, match=r"no room left to write .*: free disk space"):
        store.append("r1", search(2, thought="x" * 100_000))
    assert store.get("r1").steps == [search(1)]
    store.append("r1", search(2))


def test_a_file_that_cannot_be_written(store: TrajectoryStore):
    store._db.execute("PRAGMA query_only = ON")
    with pytest.raises(ConfigError, match=r"cannot be written .*: make the file .* writable"):
        store.start(run("r1"))


def test_a_writer_that_does_not_end_is_named(path: Path, store: TrajectoryStore):
    store._db.execute("PRAGMA busy_timeout = 0")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(WorkspaceLocked, match="another process has been writing"):
        store.start(run("r1"))
    assert store.count() == 0
    other.close()
    store.start(run("r1"))


def test_places_where_no_file_can_be(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot create the folder"):
        TrajectoryStore(tmp_path / "file" / "trajectories.db")
    with pytest.raises(ConfigError, match="cannot be opened"):
        TrajectoryStore(tmp_path)
