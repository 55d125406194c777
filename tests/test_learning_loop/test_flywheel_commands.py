"""The flywheel from the command line: turned, watched, paused, stopped, and misused."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from retrail.serving import app
from typer.testing import CliRunner


def run_cli(*arguments: object) -> Any:
    return CliRunner().invoke(app, [*map(str, arguments)])


def shown(*arguments: object) -> Any:
    result = run_cli(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.1)


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
@pytest.mark.parametrize("how", ["signal", "command"])
def test_it_runs_until_it_is_stopped_and_exits_with_0(kb, how):
    code = "from retrail.serving import main; main()"
    command = [sys.executable, "-P", "-c", code, "learn", "--continuous", "--every", "900"]
    place = ["-w", str(kb.root)]
    with subprocess.Popen([*command, *place, "--nice", "0"]) as process:
        wait_for(lambda: shown("flywheel", "status", *place)["running"])
        second = run_cli("learn", "--continuous", "--once", "--nice", "0", *place)
        assert second.exit_code == 1
        assert "another process turns the flywheel" in second.stderr
        assert "paused" in run_cli("flywheel", "pause", *place).stdout
        assert shown("flywheel", "resume", *place)["state"]["paused"] is False
        if how == "signal":
            process.send_signal(signal.SIGTERM)
        else:
            assert shown("flywheel", "stop", *place)["running"] is False
        assert process.wait(120) == 0


def test_one_round_from_the_command_line(kb, live):
    live(kb, 0, 6)
    place = ("-w", kb.root)
    kb.close()
    result = shown("learn", "--continuous", "--once", "--every", 5, "--nice", 0, *place)
    assert [one["outcome"] for one in result["rounds"]] == ["skipped"]
    assert (result["new"], result["due_in"]) == (0, 5)
    text = run_cli("flywheel", "status", *place).stdout
    assert "skipped" in text
    assert "does not run" in text
    assert shown("flywheel", "stop", *place)["running"] is False


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--every", "5"], "add --continuous"),
        (["--once"], "add --continuous"),
        (["--continuous", "--every", "0"], "greater than or equal to 1"),
        (["--continuous", "--max-minutes", "-1"], "'max_minutes'"),
    ],
)
def test_wrong_usage(kb, arguments, told):
    result = run_cli("learn", *arguments, "-w", kb.root)
    assert (result.exit_code, result.stdout) == (2, "")
    assert told in " ".join(result.stderr.split())
