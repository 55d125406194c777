"""Commands that go on by themselves: the same command in a process of its own, writing to a log."""

import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from .console import Output

_RUN = "from retrail.serving.cli import main; main()"


def detach(out: Output, root: Path, command: Sequence[str], options: Sequence[str]) -> None:
    """Start a command on a workspace in a session of its own, and return.

    Args:
        out: Is told the process and its log.
        root: The workspace.
        command: Such as ``["models", "settle"]``.
        options: Its other arguments, of which none asks for the background.
    """
    logs = root / "logs"
    logs.mkdir(exist_ok=True)
    log = logs / f"{'-'.join(command)}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.log"
    place = f"--workspace={root.absolute()}"
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _RUN, *command, place, *options],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    shown = f"process {process.pid} goes on by itself; it writes to {log}"
    out.result({"pid": process.pid, "log": str(log)}, shown)
