"""Terms of every text that a sparse encoder has read: append-only, shared by all generations.

``terms.bin`` holds a term and its weight a record, the texts end to end; where each lies is in the
corpus database, which acknowledges a batch once it is on disk, as for :mod:`.vectors`. ``query/``
is the query side of an inference-free model.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ..core.errors import CorruptStore
from .append_only import RE_ENCODE, append, mapped, reopen
from .sparse_encoder import Terms

RECORD = np.dtype([("term", "<u4"), ("weight", "<f2")])


class Span(NamedTuple):
    """Where the terms of a text lie."""

    offset: int
    length: int


class SparseFiles:
    """What one encoder gave, in one folder."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; nothing is read or created yet."""
        self.folder = folder

    @property
    def key(self) -> str:
        """The key under which the corpus database acknowledges what is in these files."""
        return f"sparse/{self.folder.name}"

    @property
    def path(self) -> Path:
        """The file of the records."""
        return self.folder / "terms.bin"

    @property
    def query(self) -> Path:
        """The folder of an exported query side."""
        return self.folder / "query"

    def records(self, ends: NDArray[np.int64]) -> NDArray[Any]:
        """Map the records, shape ``(terms,)``.

        Args:
            ends: Where texts end that must be there.

        Raises:
            CorruptStore: They are not.
        """
        found = mapped(self.path, RECORD, 1).reshape(-1)
        if ends.max(initial=0) > len(found):
            raise CorruptStore(f"{str(self.path)!r} is shorter than the corpus says", fix=RE_ENCODE)
        return found

    def read(
        self, offsets: NDArray[np.int64], lengths: NDArray[np.int64], size: int
    ) -> tuple[NDArray[np.uint32], NDArray[np.float16]]:
        """Return the terms of texts and their weights, one text after the other.

        Args:
            offsets: Where each text's terms begin.
            lengths: How many there are.
            size: Of the vocabulary.

        Raises:
            CorruptStore: They are not there, or are not what a writer leaves.
        """
        records, starts = self.records(offsets + lengths), np.cumsum(lengths) - lengths
        found = records[np.repeat(offsets - starts, lengths) + np.arange(lengths.sum())]
        terms, weights = found["term"], found["weight"]
        rising = terms[1:] > terms[:-1]
        rising[starts[(starts > 0) & (starts < len(terms))] - 1] = True  # another text begins
        if not (rising.all() and (terms < size).all() and np.isfinite(weights).all()):
            raise CorruptStore(f"{str(self.path)!r} is damaged", fix=RE_ENCODE)
        return np.ascontiguousarray(terms), np.ascontiguousarray(weights)


class SparseWriter:
    """Appends the terms of texts; what it returns is on disk and may be acknowledged."""

    def __init__(self, files: SparseFiles, acknowledged: int) -> None:
        """Open for appending after the acknowledged records.

        Raises:
            CorruptStore: The file is shorter than that.
        """
        files.folder.mkdir(parents=True, exist_ok=True)
        self._end = acknowledged
        self._handle = reopen(files.path, acknowledged * RECORD.itemsize)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self._handle)

    def append(self, batch: Sequence[Terms]) -> list[Span]:
        """Write the terms of some texts durably; returns where each text's lie."""
        return self.copy([_records(terms) for terms in batch])

    def copy(self, batch: Sequence[NDArray[Any]]) -> list[Span]:
        """Write records of other files durably."""
        append(self._handle, b"".join(records.tobytes() for records in batch))
        spans: list[Span] = []
        for records in batch:
            spans.append(Span(self._end, len(records)))
            self._end += len(records)
        return spans


def _records(terms: Terms) -> NDArray[Any]:
    records = np.empty(len(terms.ids), RECORD)
    records["term"], records["weight"] = terms
    return records
