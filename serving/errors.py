"""Errors at the command line: one clear line on stderr, and an exit code.

0 is done, 1 is failed, 2 is wrong usage: bad arguments, a bad filter, no workspace. The root group
sees every command's exception, so no command can forget; a traceback is shown with ``--debug``.
"""

import os
import traceback
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from ..core.errors import ConfigError, FilterError, RetrailError, WorkspaceLocked
from ..core.failures import is_storage
from .console import Output, clean, one_line

if TYPE_CHECKING:
    from pydantic import ValidationError

FAILED = 1
WRONG_USAGE = 2

_LONGEST = 2_000
"""Characters of a message that are shown."""

INTERRUPTED = {
    "add": "nothing that was read is lost, the same command goes on where it stopped",
    "remove": "the same command goes on where it stopped",
    "learn": "what serves is unchanged, the same command goes on from the last checkpoint",
    "eval": "what was measured is kept, the same command goes on where it stopped",
    "ask": "what was observed is kept; with --out the same command goes on where it stopped",
    "doctor": "what served before serves still, start it again",
}
"""What an interrupted command leaves behind."""


class Failed(RetrailError):
    """The command was right, but could not be done."""


class Commands(TyperGroup):
    """The root group: turns exceptions into messages and exit codes."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except (typer.Abort, BrokenPipeError, SystemExit):
            raise
        except KeyboardInterrupt as error:
            left = INTERRUPTED.get(ctx.invoked_subcommand or "", "nothing was changed half")
            Output().note(f"Interrupted: {left}")
            raise typer.Exit(FAILED) from error
        # Extensions written in Rust panic with an exception that only BaseException covers.
        except BaseException as error:
            if hasattr(error, "exit_code"):  # the parser's own
                raise
            out = Output()
            if ctx.params.get("debug"):
                out.note("".join(traceback.format_exception(error)))
            out.note(f"Error: {message(error)}")
            raise typer.Exit(exit_code(error)) from error


def exit_code(error: BaseException) -> int:
    """Tell wrong usage, which the caller mends, from failure.

    >>> exit_code(ConfigError("k is 0")), exit_code(WorkspaceLocked("busy")), exit_code(OSError())
    (2, 1, 1)
    """
    failed = isinstance(error, WorkspaceLocked) or is_storage(error)
    return WRONG_USAGE if isinstance(error, ConfigError) and not failed else FAILED


def message(error: BaseException) -> str:
    """Say in one line what went wrong and, where it is known, what to do."""
    expected = isinstance(error, RetrailError | OSError)
    return describe(error) + ("" if expected else " (retrail --debug COMMAND… shows where)")


def describe(error: BaseException) -> str:
    """Say in one line what an exception is.

    >>> import errno
    >>> describe(OSError(errno.ENOSPC, "No space left on device", "a.db"))
    "No space left on device, 'a.db': free disk space and run the command again"
    >>> describe(KeyError("x"))
    "KeyError: 'x'"
    """
    if isinstance(error, RetrailError):
        text = str(error)
    elif isinstance(error, OSError) and error.errno is not None:
        at = f", {str(error.filename)!r}" if error.filename is not None else ""
        text = (error.strerror or os.strerror(error.errno)) + at
        if is_storage(error):
            text += ": free disk space and run the command again"
    else:
        text = f"{type(error).__name__}: {error}"
    # The lines of a filter error show the place that cannot be read.
    line = clean(text) if isinstance(error, FilterError) else one_line(text)
    return line if len(line) <= _LONGEST else line[:_LONGEST] + " …"


def bad_value(error: "ValidationError") -> ConfigError:
    """Turn a model's complaint about what the user gave into ours."""
    first = error.errors(include_url=False)[0]
    option = "-".join(str(part) for part in first["loc"]).replace("_", "-")
    return ConfigError(f"--{option} {first['input']!r}", fix=str(first["msg"]))
