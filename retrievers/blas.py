"""BLAS on the caller's thread: searches are many and small, and the encoder has threads too.

A product of a few thousand tokens takes a millisecond on one core. Shared out among threads it
waits for the slowest, which on a busy machine is many times that; and the pools of BLAS and of the
encoder's runtime would fight for the same cores. Searches at once still use all cores, one each.
"""

from contextlib import AbstractContextManager
from functools import cache
from typing import Any


def one_thread() -> AbstractContextManager[Any]:
    """Keep the products of NumPy and SciPy on one thread; what was set before comes back."""
    return _pools().limit(limits=1, user_api="blas")


@cache
def _pools() -> Any:
    import numpy as np  # noqa: F401  (its BLAS has to be loaded to be found)
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
