"""Parts of a first stage: immutable arrays over consecutive rows of the vector files.

Rows are only ever appended, so a generation adds one part and takes the others over by hard link;
small neighbours are merged, each at most as often as its size doubles. Passages that are gone or
share a row are the layout's matter, not that of the parts.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.errors import REBUILD, CorruptStore
from ..core.shared_files import link_or_copy
from .encoder import Vectors
from .vectors import DAMAGED

Arrays = Mapping[str, NDArray[Any]]


_DIGITS = 10
"""Of a row number in the name of a file."""


class Part(NamedTuple):
    """What a stage knows of the rows from ``first`` to before ``end``."""

    first: int
    end: int
    arrays: Arrays

    @property
    def name(self) -> str:
        """Of its files; two parts of one fit with equal names are equal."""
        return f"{self.first:0{_DIGITS}d}-{self.end:0{_DIGITS}d}"


Merge = Callable[[Part, Part], Part]


class Parts:
    """The parts of one stage and the tables they were made with."""

    def __init__(self, tables: Mapping[str, Vectors], parts: list[Part]) -> None:
        """Hold parts by rising rows, without gaps from row 0 on."""
        self.tables = dict(tables)
        self.parts = parts

    @property
    def end(self) -> int:
        """The first row that no part knows."""
        return self.parts[-1].end if self.parts else 0

    def add(self, part: Part, merge: Merge) -> None:
        """Append a part, merged with those before it that are not twice as long."""
        while self.parts and _rows(self.parts[-1]) <= 2 * _rows(part):
            part = merge(self.parts.pop(), part)
        self.parts.append(part)

    def save(self, folder: Path, base: Path | None = None) -> None:
        """Write a folder, linking the files that ``base`` has of the same fit."""
        folder.mkdir(parents=True)
        files: dict[str, NDArray[Any]] = {
            f"{part.name}.{name}.npy": array
            for part in self.parts
            for name, array in part.arrays.items()
        }
        for name, array in (files | {f"{n}.npy": a for n, a in self.tables.items()}).items():
            if base is not None and (base / name).exists():
                link_or_copy(base / name, folder / name)
            else:
                np.save(folder / name, array)

    @classmethod
    def open(cls, folder: Path) -> "Parts":
        """Map the files of a folder.

        Raises:
            CorruptStore: A file is missing or damaged.
        """
        tables: dict[str, Vectors] = {}
        arrays: dict[str, dict[str, NDArray[Any]]] = {}
        try:
            for path in sorted(folder.glob("*.npy")):
                span, _, name = path.stem.rpartition(".")
                into = arrays.setdefault(span, {}) if span else tables
                into[name] = np.load(path, mmap_mode="r")
        except DAMAGED as error:
            raise CorruptStore(f"{str(folder)!r} is damaged", fix=REBUILD) from error
        parts = [
            Part(int(span[:_DIGITS]), int(span[-_DIGITS:]), arrays[span]) for span in sorted(arrays)
        ]
        ends = [0, *(part.end for part in parts)]
        if not tables or [part.first for part in parts] != ends[:-1]:
            raise CorruptStore(f"a part of {str(folder)!r} is missing", fix=REBUILD)
        return cls(tables, parts)


def _rows(part: Part) -> int:
    return part.end - part.first
