"""Rounds of the flywheel: how runs are counted, when a round is due, what is remembered."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from filelock import FileLock
from retrail.core import ConfigError, CorruptStore, WorkspaceLocked
from retrail.core.database import Schema, connect
from retrail.memory.migrations import TRAJECTORIES
from retrail.memory.store import TrajectoryStore


def test_finished_runs_are_counted_once_each_whoever_records_them(tmp_path, sightings):
    path = tmp_path / "trajectories.db"
    with TrajectoryStore(path) as store:
        marks = [store.finished()]

        def record(at: int) -> None:
            run = sightings.runs[at].model_copy(update={"status": "running"})
            with TrajectoryStore(path) as mine:
                mine.start(run)
                if at % 4:
                    mine.finish(run.id, status="failed")
                    mine.finish(run.id, status="completed")

        with ThreadPoolExecutor(4) as pool:
            jobs = [pool.submit(record, at) for at in range(40)]
            while not all(job.done() for job in jobs):
                marks.append(store.finished(marks[-1][0]))
            for job in jobs:
                job.result()
        marks.append(store.finished(marks[-1][0]))
        assert sum(new for _, new in marks) == 30
        mark, _ = marks[-1]
        assert len(list(store.iterate(through=mark))) == 30
        store.finish("run-000", status="partial")
        assert store.finished(mark) == (mark + 1, 1)
        assert "run-000" not in [run.id for run in store.iterate(through=mark)]


def test_purging_the_last_runs_hides_no_later_one(kb, sightings, live):
    live(kb, 0, 10)
    mark, new = kb.trajectories.finished()
    for run in sightings.runs[5:10]:
        kb.trajectories.purge(trajectory_id=run.id)
    assert (new, kb.trajectories.finished(mark)) == (10, (mark, 0))
    live(kb, 20, 23)
    assert kb.trajectories.finished(mark)[1] == 3


def test_runs_of_an_older_file_are_counted(tmp_path):
    path = tmp_path / "trajectories.db"
    older = connect(path, Schema("trajectory store", TRAJECTORIES.migrations[:2]))
    row = "INSERT INTO trajectories VALUES (?, ?, 'q', 'q', ?, 'p', NULL, '', 0, 0, '{}')"
    older.executemany(row, [(1, "a", "completed"), (2, "b", "running"), (3, "c", "failed")])
    older.close()
    with TrajectoryStore(path) as store:
        assert store.finished() == (2, 2)


def test_rounds_are_due_every_n_runs_and_are_remembered(kb, sightings, live, wheel):
    turning = wheel(kb, every=40)
    live(kb, 0, 39)
    assert turning.step() is None
    assert turning.status().due_in == 1
    live(kb, 39, 48)
    first = turning.step()
    assert first is not None
    assert (first.number, first.new, first.version) == (1, 48, 1)
    assert first.outcome in ("promoted", "kept")
    assert first.reason == kb.models()[0].reason
    assert turning.step() is None
    status = wheel(kb, every=40).status()
    assert (status.running, status.new, status.due_in) == (False, 0, 40)
    assert status.recent == [first] == [status.state.last]
    kb.trajectories.start(sightings.runs[50])
    assert (turning.status().new, turning.status().due_in) == (1, 39)


def test_a_round_with_too_few_runs_says_so_and_waits_for_more(kb, live, wheel):
    turning = wheel(kb, every=4)
    live(kb, 0, 6)
    ended = turning.step()
    assert ended is not None
    assert (ended.outcome, ended.version) == ("skipped", None)
    assert "too little to learn from" in ended.reason
    assert turning.step() is None
    live(kb, 6, 9)
    assert turning.step() is None
    live(kb, 9, 64)
    ended = turning.step()
    assert ended is not None
    assert (ended.number, ended.new) == (2, 58)
    assert ended.version == 1
    assert turning.status().recent[0].outcome == "skipped"


def test_a_round_waits_for_room_and_for_the_write_lock(kb, live, wheel):
    live(kb)
    assert wheel(kb, min_free_gb=1e9).step() is None
    assert wheel(kb, min_memory_gb=1e9).step() is None
    assert "GB of memory are available" in wheel(kb).status().state.waiting
    assert kb.models() == []
    turning = wheel(kb)
    with FileLock(kb.root / "write.lock"):
        assert turning.step() is None
        waiting = turning.status().state
        assert "another process is writing" in waiting.waiting
        assert waiting.open is not None
    ended = turning.step()
    assert ended is not None
    assert (ended.number, ended.version, turning.status().state.waiting) == (1, 1, "")


def test_a_paused_flywheel_rests_and_a_second_one_is_refused(kb, live, wheel):
    live(kb)
    turning = wheel(kb)
    turning.state.change(paused=True)
    assert turning.step() is None
    assert turning.run(once=True) == 0
    turning.state.change(paused=False)
    other = wheel(kb)
    refused: list[str] = []

    def second(*told: object) -> None:
        if not refused:
            with pytest.raises(WorkspaceLocked, match="another process turns the flywheel") as e:
                other.step()
            refused.append(str(e.value))
            assert other.status().running

    assert wheel(kb, progress=second).run(once=True) == 1
    assert "retrail flywheel stop" in refused[0]
    assert not other.status().running


def test_bad_options_and_a_damaged_state_are_named(kb, wheel):
    with pytest.raises(ConfigError, match="'every'"):
        kb.flywheel(every=0)
    with pytest.raises(ConfigError, match="'wheels'"):
        kb.flywheel(wheels=4)
    (kb.root / "flywheel.json").write_text("{")
    with pytest.raises(CorruptStore, match=r"flywheel\.json' is damaged"):
        wheel(kb).step()


def test_a_log_line_that_a_kill_cut_off_is_written_again(kb, live, wheel):
    turning = wheel(kb, every=2)
    for first in (0, 2):
        live(kb, first, first + 2)
        turning.step()
    log = turning.state.log
    whole = log.read_bytes()
    log.write_bytes(whole[:-20])
    assert [one.number for one in turning.status().recent] == [1]
    assert turning.step() is None
    assert log.read_bytes() == whole
