"""Append-only files: written durably behind what was acknowledged, read through memory maps.

A tail that nobody acknowledged, as a killed process leaves one, is cut off by the next writer; a
file that is shorter than what was acknowledged has lost something and is refused.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import CorruptStore

RE_ENCODE = "retrail doctor --rebuild re-encodes the corpus"


def reopen(path: Path, size: int) -> int:
    """Open a file for appending after its acknowledged bytes; returns the handle.

    Raises:
        CorruptStore: It is shorter than that.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    if os.fstat(handle).st_size < size:
        os.close(handle)
        raise CorruptStore(f"{str(path)!r} is shorter than the corpus says", fix=RE_ENCODE)
    os.ftruncate(handle, size)
    os.lseek(handle, 0, os.SEEK_END)
    return handle


def append(handle: int, data: bytes) -> None:
    """Write all of the data; it is on disk when this returns."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
    os.fsync(handle)


def mapped(path: Path, dtype: np.dtype[Any], width: int) -> NDArray[Any]:
    """Map the whole rows of a file, shape ``(rows, width)``.

    Raises:
        CorruptStore: It cannot be read.
    """
    try:
        rows = path.stat().st_size // (width * dtype.itemsize)  # a torn tail counts for nothing
        if rows == 0:
            return np.zeros((0, width), dtype)
        return np.memmap(path, dtype=dtype, mode="r", shape=(rows, width))
    except OSError as error:
        raise CorruptStore(f"{str(path)!r} cannot be read", fix=RE_ENCODE) from error
