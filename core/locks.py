"""One process at a time: a lock file, and a clear error for whoever comes second.

The operating system releases the lock of a process that dies, so a file left behind locks nothing.
"""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from .errors import WorkspaceLocked


@contextmanager
def alone(
    lock: Path | BaseFileLock,
    doing: str,
    *,
    fix: str = "wait until it is done, or stop it, and try again",
    seconds: float = 0,
) -> Generator[None]:
    """Hold a lock.

    Args:
        lock: Its file, or a lock that others of this process look at.
        doing: What another process that holds it does, for the message.
        fix: What to do about that.
        seconds: To wait for it.

    Raises:
        WorkspaceLocked: Another process holds it.
    """
    held = FileLock(lock) if isinstance(lock, Path) else lock
    try:
        held.acquire(timeout=seconds)
    except Timeout as error:
        raise WorkspaceLocked(f"another process {doing}", fix=fix) from error
    try:
        yield
    finally:
        held.release()
