"""A training that is killed goes on where it was, and ends as if nothing had happened."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from retrail.agents import Workspace
from retrail.retrievers.training import Hyperparameters
from retrail.retrievers.training.checkpoints import last_checkpoint

HYPER = Hyperparameters(epochs=6, batch_size=4, negatives=1, max_tokens=16, lora=2)
DEADLINE = 240


def start_learning(kb: Path) -> "subprocess.Popen[bytes]":
    options = ["--epochs=6", "--batch-size=4", "--negatives=1", "--max-tokens=16"]
    command = ["learn", *options, "--lora=2", f"--workspace={kb}"]
    code = "from retrail.serving import main; main()"
    return subprocess.Popen(
        [sys.executable, "-P", "-c", code, *command], env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


def kill_after_a_checkpoint(kb: Path) -> int:
    """Return the step of the last checkpoint that a killed process left."""
    process, deadline = start_learning(kb), time.monotonic() + DEADLINE
    try:
        while not list(kb.glob("models/dense/0001/checkpoints/*/checkpoint-*/trainer_state.json")):
            assert process.poll() is None, "ended before there was a checkpoint"
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL
    (key,) = (kb / "models/dense/0001/checkpoints").iterdir()
    last = last_checkpoint(key)
    assert last is not None
    return int(last.rpartition("-")[2])


def weights(kb: Workspace) -> dict[str, torch.Tensor]:
    return kb.index.load("models/dense/0001").model.state_dict()


def test_a_killed_learn_goes_on(copied: Callable[[str], Path]):
    steps: list[int] = []

    def progress(stage: str, done: int, total: int | None) -> None:
        if stage == "training":
            steps.append(done)

    cut, whole = copied("cut"), copied("whole")
    reached = kill_after_a_checkpoint(cut)
    with Workspace.open(cut) as kb:
        assert kb.models() == []
        assert kb.learn(hyper=HYPER, progress=progress).version == 1
        resumed = weights(kb)
        assert not list(kb.root.glob("models/dense/0001/checkpoints"))
    assert steps[0] == reached + 1
    with Workspace.open(whole) as kb:
        kb.learn(hyper=HYPER)
        straight = weights(kb)
    assert steps[-1] > reached
    for name, value in straight.items():
        torch.testing.assert_close(resumed[name], value, atol=1e-5, rtol=1e-4)
