"""What `retrail learn` costs: seconds of each part, peak memory, and examples trained a second.

Learns from the runs of an agent over 14,298 passages of Wikipedia, from mining to the gate, in
every mode and for every target. Each is a process of its own over a copy of the workspace, so that
peak memory is its own. Arguments choose rows: ``full:dense full:late:lora=8 adapter:both``; options
of training follow the target.
"""

import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import WORK, write_table
from retrail.memory.formats import import_files
from retrail.retrievers.training import Hyperparameters
from swap import SOURCE, built

from retrail import Workspace

HEADER = (
    *("mode", "target", "options", "mining s", "training s", "encoding s", "gate s", "all s"),
    *("peak MB", "examples/s", "gate"),
)
ROWS = tuple(
    f"{mode}:{target}"
    for mode in ("full", "query", "adapter")
    for target in ("dense", "late", "both")
)
PARTS = ("mining", "training", "encoding", "measuring")
MEASURE = "--measure"
UNIT = 1024 if sys.platform == "linux" else 1
"""Bytes that the system counts peak memory in."""


class Clock:
    """Seconds of each part, told by progress: a part lasts until the next one begins."""

    def __init__(self) -> None:
        """Begin with mining, which tells nothing."""
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._part, self._since = "mining", time.perf_counter()

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Take in a report; stages within a part count to it."""
        now = time.perf_counter()
        self.seconds[self._part] += now - self._since
        self._since = now
        self._part = stage if stage in PARTS else self._part


def main() -> None:
    """Measure every row and write the table."""
    if not SOURCE.exists():
        raise SystemExit(f"there is no {SOURCE}; set RETRAIL_SHARED_DATA to the data folder")
    source = built()
    rows = [_in_a_process(source, name) for name in sys.argv[1:] or ROWS]
    write_table(
        "training",
        "What learning costs: 282 runs of an agent over 14,298 passages",
        HEADER,
        rows,
        "From the runs to the verdict. Encoding and publishing again is needed only where passages "
        "change; the seconds of the first step (loading, encoding what is frozen) count as mining.",
    )


def _in_a_process(source: Path, name: str) -> Sequence[object]:
    folder = WORK / "training"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("trajectories.db*", "models"))
    command = [sys.executable, __file__, MEASURE, str(folder), name]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return json.loads(found.stdout)


def measure(folder: str, name: str) -> None:
    """Learn once and write the row to standard output."""
    mode, target, *options = name.split(":")
    given: dict[str, Any] = dict(option.split("=") for option in options)
    hyper = Hyperparameters.model_validate(given | {"mode": mode, "target": target})
    clock, start = Clock(), time.perf_counter()
    with Workspace.open(folder) as opened:
        import_files(opened.trajectories, [SOURCE / "runs.jsonl.gz"])
        report = opened.learn(hyper=hyper, progress=clock)
    clock("", 0, None)
    seconds = clock.seconds
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT / 1e6
    rate = report.examples * hyper.epochs / max(seconds["training"], 1e-9)
    cells = [mode, target, " ".join(options) or "as they are"]
    cells += [f"{seconds[part]:.0f}" for part in PARTS]
    cells += [f"{time.perf_counter() - start:.0f}", f"{peak:.0f}", f"{rate:.1f}"]
    sys.stdout.write(json.dumps([*cells, f"{report.verdict}: {report.reason}"]))


if __name__ == "__main__":
    if MEASURE in sys.argv:
        measure(*sys.argv[2:])
    else:
        main()
