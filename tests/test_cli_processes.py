"""The command line as real processes: interrupted, short of room, in the background, in a pipe."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from retrail.serving import app
from typer.testing import CliRunner

if sys.platform == "win32":
    pytest.skip("signals and limits as POSIX has them", allow_module_level=True)

import resource

DOCUMENTS = 160
WORDS = ("river", "forest", "lodge", "wood", "dam", "night", "stone", "winter", "food", "water")


def start(*arguments: object, first: str = "pass", **options: Any) -> "subprocess.Popen[str]":
    """Start the command; ``first`` is code that the process runs before it."""
    code = f"{first}; from retrail.serving import main; main()"
    command = [sys.executable, "-P", "-c", code]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen([*command, *map(str, arguments)], text=True, **options)


def as_json(*arguments: object) -> Any:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for n in range(DOCUMENTS):
            words = " ".join(WORDS[(n * k + k) % len(WORDS)] for k in range(1, 60))
            file.write(json.dumps({"_id": f"d{n}", "text": f"Number {n}: {words}"}) + "\n")
    return path


def test_an_interrupted_add_loses_nothing_and_goes_on(corpus: Path, tmp_path: Path):
    kb = tmp_path / "kb"
    # Whoever runs the tests in the background may have them inherit an ignored SIGINT.
    heed = "import signal as s; s.signal(s.SIGINT, s.default_int_handler)"
    with start("add", corpus, "-w", kb, first=heed) as process:
        assert process.stderr is not None
        while not (line := process.stderr.readline()).startswith("encoding"):
            assert line, "the process ended before it encoded"
        process.send_signal(signal.SIGINT)
        out, error = process.communicate()
    assert (process.returncode, out) == (1, "")
    assert "Interrupted: nothing that was read is lost" in error
    assert "Traceback" not in error
    report = as_json("add", corpus, "-w", kb)
    assert (report["added"], report["unchanged"], report["generation"]) == (0, DOCUMENTS, 1)
    status = as_json("status", "-w", kb)
    assert (status["documents"], status["passages"]) == (DOCUMENTS, DOCUMENTS)
    assert len(as_json("search", "number 7", "-k", 500, "-w", kb)["hits"]) == DOCUMENTS


def test_no_room_left(corpus: Path, tmp_path: Path):
    kb = tmp_path / "kb"
    limits = (60_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    limit = f"import resource as r; r.setrlimit(r.RLIMIT_FSIZE, {limits})"
    with start("add", corpus, "-w", kb, first=limit) as process:
        out, error = process.communicate()
    assert (process.returncode, out) == (1, "")
    (line,) = [line for line in error.splitlines() if line.startswith("Error")]
    assert "corpus.db" in line
    assert "Traceback" not in error
    assert as_json("add", corpus, "-w", kb)["generation"] == 1


def test_learn_in_the_background_returns_and_writes_to_a_log(corpus: Path, tmp_path: Path):
    kb = tmp_path / "kb"
    run = {"question": "x", "agent": {"planner": "rules"}}
    (tmp_path / "T.jsonl").write_text(json.dumps(run), encoding="utf-8")
    as_json("trajectories", "import", tmp_path / "T.jsonl", "-w", kb)
    with start("learn", "--background", "--epochs", 1, "-w", kb, "--json") as process:
        out, error = process.communicate()
    assert process.returncode == 0, error
    told = json.loads(out)
    log = Path(told["log"])
    assert log.is_relative_to(kb)
    assert told["pid"] != process.pid
    deadline = time.monotonic() + 120
    while "then learn again" not in log.read_text(encoding="utf-8"):
        assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
        time.sleep(0.1)
    assert log.read_text(encoding="utf-8").startswith("Error: too little to learn from")


def test_a_reader_that_stops_reading_is_no_bug():
    read, write = os.pipe()
    with start("--help", stdout=write) as process:
        os.close(write)
        os.close(read)
        _, error = process.communicate()
    assert process.returncode in (0, 1)
    assert "Traceback" not in error
