"""Rounds that are stopped, paused, out of time or killed, and go on."""

import signal
import subprocess
import sys

import pytest
from retrail.agents.flywheel import origin_of
from retrail.core.errors import WorkspaceLocked
from retrail.retrievers.training import Hyperparameters
from retrail.retrievers.training.registry import Registry

QUICK = Hyperparameters(mode="adapter", epochs=2, negatives=2, max_tokens=16)
FULL = Hyperparameters(epochs=2, learning_rate=2e-4, negatives=1, max_tokens=16)


def steps_of(seen: list[tuple[str, int]]) -> list[int]:
    return [done for stage, done in seen if stage == "training"]


@pytest.mark.parametrize("how", ["stop", "pause", "minutes"])
def test_a_round_interrupted_in_training_goes_on_at_the_next_step(kb, how, sightings, live, wheel):
    live(kb)
    seen: list[tuple[str, int]] = []

    def interrupt(stage: str, done: int, total: int | None) -> None:
        seen.append((stage, done))
        if stage == "training" and done == 2:
            if how == "stop":
                turning.stop()
            elif how == "pause":
                turning.state.change(paused=True)

    limits = {"max_minutes": 1e-9} if how == "minutes" else {}
    turning = wheel(kb, hyper=FULL, progress=interrupt, **limits)
    assert turning.step() is None
    stopped_after = 1 if how == "minutes" else 2
    assert steps_of(seen)[-1] == stopped_after
    state = turning.state.read()
    assert state.open is not None
    live_later = sightings.runs[0].model_copy(update={"id": "later", "question": "More?"})
    kb.trajectories.start(live_later)
    turning.state.change(paused=False)
    seen.clear()
    again = wheel(kb, hyper=FULL, progress=lambda *told: seen.append(told[:2]))
    ended = again.step()
    assert ended is not None
    assert (ended.number, ended.new, ended.through) == (1, 64, state.open.through)
    assert steps_of(seen)[0] == stopped_after + 1
    assert again.status().new == 1
    assert kb.models()[0].trajectories == [run.id for run in sightings.runs]


KILLED = """
import os, signal, sys
from retrail import Workspace
from retrail.retrievers.training import Hyperparameters
def kill(stage, done, total):
    if (stage, done) == ("{stage}", {done}):
        os.kill(os.getpid(), signal.SIGKILL)
with Workspace.open(sys.argv[1]) as kb:
    hyper = Hyperparameters.model_validate_json(sys.argv[2])
    options = dict(min_free_gb=0, min_memory_gb=0, learning=dict(hyper=hyper))
    kb.flywheel(progress=kill, **options).run(once=True)
"""


@pytest.mark.parametrize(("stage", "done"), [("training", 2), ("measuring", 1)])
def test_a_killed_round_is_taken_up_and_no_run_counts_twice(kb, stage, done, live, wheel):
    live(kb)
    code = KILLED.format(stage=stage, done=done)
    command = [sys.executable, "-P", "-c", code, str(kb.root), FULL.model_dump_json()]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    state = wheel(kb).state.read()
    assert (state.rounds, state.through) == (0, 0)
    assert state.open is not None
    seen: list[tuple[str, int]] = []
    ended = wheel(kb, hyper=FULL, progress=lambda *told: seen.append(told[:2])).step()
    assert ended is not None
    assert (ended.number, ended.new, ended.version) == (1, 64, 1)
    if stage == "measuring":
        assert steps_of(seen) == []  # training was over
    assert wheel(kb).status().new == 0
    assert [card.version for card in kb.models()] == [1]


def test_a_version_that_a_kill_left_unserved_is_taken_as_the_rounds(kb, live, wheel):
    live(kb)
    turning = wheel(kb)
    due = turning._due(turning.state.read())
    turning.state.change(open=due)
    kb.learn(hyper=QUICK, accept_equal=True, origin=origin_of(due))
    (card,) = kb.models()
    promoted = card.verdict == "promoted"
    if promoted:
        kb.promote(0)
    ended = turning.step()
    assert ended is not None
    assert (ended.version, ended.outcome, ended.reason) == (1, card.verdict, card.reason)
    assert (kb.index.published.serving == card.reference) == promoted
    assert len(kb.models()) == 1


def test_a_version_that_somebody_else_made_is_not_the_rounds(kb, live, wheel):
    live(kb)
    turning = wheel(kb)
    turning.state.change(open=turning._due(turning.state.read()))
    kb.learn(hyper=QUICK, accept_equal=True)
    ended = turning.step()
    assert ended is not None
    assert ended.version == 2


def test_two_trainings_do_not_share_a_version(kb, live):
    live(kb)
    with Registry(kb.root).training(), pytest.raises(WorkspaceLocked, match="is learning"):
        kb.learn(hyper=QUICK)
    assert kb.models() == []
    kb.learn(hyper=QUICK)
    assert [card.version for card in kb.models()] == [1]
