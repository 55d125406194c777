"""BLAS on the caller's thread: searches are many and small, and the encoder has threads too.

A product of a few thousand tokens takes a millisecond on one core. Shared out among threads it
waits for the slowest, which on a busy machine is many times that; and the pools of BLAS and of the
encoder's runtime would fight for the same cores. Searches at once still use all cores, one each.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from threading import Lock
from typing import Any

_lock = Lock()
_searching = 0
"""Searches that hold the limit."""
_limit = ExitStack()
"""Gives back what was set before."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep the products of NumPy and SciPy on one thread; what was set before comes back.

    The limit is the process's: the first of several searches at once sets it, the last lifts it.
    """
    global _searching
    with _lock:
        if not _searching:
            _limit.enter_context(_pools().limit(limits=1, user_api="blas"))
        _searching += 1
    try:
        yield
    finally:
        with _lock:
            _searching -= 1
            if not _searching:
                _limit.close()


@cache
def _pools() -> Any:
    import numpy as np  # noqa: F401  (its BLAS has to be loaded to be found)
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
