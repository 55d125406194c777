"""The recorder on its own: every step is stored as it happens."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from retrail.core import AgentInfo, Step, Trajectory
from retrail.memory import TrajectoryStore
from retrail.tools import Recorder


class TestRecorder:
    """The recorder on its own."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[TrajectoryStore]:
        with TrajectoryStore(tmp_path / "trajectories.db") as opened:
            yield opened

    @pytest.fixture
    def recorder(self, store: TrajectoryStore) -> Recorder:
        return Recorder(store, agent=AgentInfo(planner="test"), question="Q")

    @pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt("stop")])
    def test_any_failure_is_recorded_and_goes_on(self, recorder, store, error):
        with pytest.raises(type(error)), recorder.step("search", "late", {"query": "q"}):
            raise error
        (step,) = store.get(recorder.id).steps
        assert step.observation.error == f"{type(error).__name__}: {error}"

    def test_nothing_is_stored_before_the_first_step(self, recorder, store):
        assert store.count() == 0
        with recorder.step("search", "late", {"query": "q"}):
            assert store.count() == 0
        assert store.get(recorder.id).status == "running"

    def test_a_run_without_steps_is_stored_when_it_ends(self, recorder, store):
        closed = recorder.finish("not_found")
        assert store.get(recorder.id) == closed
        assert (closed.steps, closed.status) == ([], "not_found")

    def test_tokens_belong_to_the_step_they_led_to(self, recorder, store):
        recorder.spend(30)
        recorder.spend(5)
        assert recorder.tokens == 35
        for _ in range(2):
            with recorder.step("search", "late", {"query": "q"}):
                pass
        recorder.spend(7)
        closed = recorder.finish("completed")
        assert [step.tokens for step in closed.steps] == [35, 0]
        assert store.get(recorder.id).usage.llm_tokens == 42

    def test_listeners_hear_of_steps_that_are_stored(self, store):
        heard: list[int] = []

        def listen(step: Step) -> None:
            heard.append(len(store.get(recorder.id).steps))

        recorder = Recorder(store, agent=AgentInfo(planner="test"), question="Q", on_step=listen)
        for _ in range(3):
            with recorder.step("search", "late", {"query": "q"}):
                pass
        assert heard == [1, 2, 3]

    def test_without_a_store_the_run_is_kept_in_memory(self):
        recorder = Recorder(None, agent=AgentInfo(planner="test"))
        with recorder.step("search", "late", {"query": "first query"}):
            pass
        closed = recorder.finish("completed")
        assert isinstance(closed, Trajectory)
        assert (closed.question, len(closed.steps)) == ("first query", 1)
