"""Child processes for whatever RAGatouille may do slowly, wrongly or without end.

The job travels as JSON on standard input; what the child prints goes to our log.
"""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, Literal

from ..core.errors import BackendUnavailable

logger = logging.getLogger(__name__)

Operation = Literal["add", "build", "compile", "delete"]


class RagatouilleTimeout(BackendUnavailable):
    """RAGatouille did not finish in time and was ended."""


def run(
    operation: Operation,
    job: Mapping[str, Any],
    seconds: float,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Do one job in a child process and wait for it.

    Args:
        operation: What to do.
        job: Arguments of the operation, as JSON can say them.
        seconds: Time limit.
        environment: Variables to set for the child.

    Raises:
        RagatouilleTimeout: The child was ended after ``seconds``.
        BackendUnavailable: The child failed.
    """
    command = [sys.executable, "-m", f"{__package__}.ragatouille_worker", operation]
    try:
        done = subprocess.run(
            command,
            input=json.dumps(job),
            env=os.environ | {"PYTHONSAFEPATH": "1"} | dict(environment or {}),
            timeout=seconds,
            check=False,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
    except subprocess.TimeoutExpired as error:
        raise RagatouilleTimeout(
            f"RAGatouille's {operation} took longer than {seconds:g} seconds and was ended",
            install_hint="give it more time with timeout=, or index fewer passages",
        ) from error
    logger.debug("%s:\n%s\n%s", operation, done.stdout, done.stderr)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise BackendUnavailable(
            f"RAGatouille's {operation} failed ({reason})",
            install_hint="the log of 'retrail' at level DEBUG has all it printed",
        )
