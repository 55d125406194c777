"""First stages of late interaction: what proposes candidates for exact MaxSim.

``union`` takes those of dense and keyword search; ``centroids`` and ``muvera`` score every row of
the vector files approximately from the token vectors themselves. A stage is built for rows, so it
grows with the vector files and never shrinks; which passages are alive, share a row or are admitted
by a filter is decided here, by the layout.
"""

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ..core.errors import REBUILD, CorruptStore
from ..core.settings import Settings
from .centroids import Centroids
from .codecs import decoded
from .encoder import Vectors
from .late import Layout
from .muvera import Muvera
from .stage_parts import Parts
from .vectors import VectorFiles

Stage = Literal["union", "centroids", "muvera"]

AUTO_CENTROIDS = 500_000
"""Passages from which ``auto`` takes centroids; see :func:`stage_of`."""

REFIT = 4
"""Rows per row at the last fit from which a stage is fitted again."""

_BATCH = 1 << 18
"""Token vectors read at once."""

Read = Callable[[slice], Vectors]

Places = Callable[[int], NDArray[np.int64]]
"""Returns offset and length of each acknowledged row from a given one on, by row."""


class FirstStage(Protocol):
    """Approximate late scores of rows."""

    arrays: ClassVar[frozenset[str]]
    """Names of those in each part."""
    parts: Parts

    def __init__(self, parts: Parts) -> None:
        """Read what was fitted and built."""
        ...

    @staticmethod
    def sample_size(tokens: int) -> int:
        """Return how many of so many token vectors :meth:`fit` wants."""
        ...

    @classmethod
    def fit(cls, sample: Vectors, tokens: int) -> "FirstStage":
        """Learn what a stage of so many token vectors needs, with no rows yet."""
        ...

    def add(self, tokens: Vectors, lengths: NDArray[np.int64]) -> None:
        """Append rows: their token vectors end to end, and how many each has."""
        ...

    def scores(self, query: Vectors) -> Vectors:
        """Score every row for projected query tokens, shape ``(query tokens, dim)``."""
        ...


STAGES: dict[str, type[FirstStage]] = {"centroids": Centroids, "muvera": Muvera}
"""By name, those that are built."""


def stage_of(settings: Settings, passages: int) -> Stage:
    """Choose the first stage of a corpus: what the settings say, ``auto`` by its size alone.

    Below ``AUTO_CENTROIDS`` passages it is ``union``: of exact MaxSim's best it proposes more, at
    less cost (``benchmarks/first_stages.py``). From there on the graph of dense search, which has
    to lie in memory whole with some 2 kB a passage, is left to who asks for dense or hybrid search,
    and lists that are mapped from disk take its place for late search.
    """
    if settings.ragatouille or not passages:
        return "union"  # PLAID has stages of its own, and nothing can be fitted to no vectors
    if settings.late_stage != "auto":
        return settings.late_stage
    return "union" if passages < AUTO_CENTROIDS else "centroids"


def propose(
    stage: FirstStage,
    query: Vectors,
    layout: Layout,
    depth: int,
    within: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Return the row ids of the most promising passages, in order of id.

    Args:
        stage: Scores rows.
        query: Projected query tokens.
        layout: Of the generation.
        depth: Passages wanted; fewer only if there are not so many.
        within: Row ids that may be proposed; all if not given.
    """
    at = np.arange(len(layout.ids)) if within is None else layout.find(within)
    if len(at) > depth:
        scores = stage.scores(query)[layout.rows[at]]
        at = np.sort(at[np.argpartition(scores, -depth)[-depth:]])
    return layout.ids[at]


def open_stage(kind: type[FirstStage], folder: Path, rows: int) -> FirstStage:
    """Map what was built.

    Args:
        kind: Of ``STAGES``.
        folder: Holds it.
        rows: That it has to know, at least.

    Raises:
        CorruptStore: It is missing or damaged.
    """
    try:
        stage = kind(Parts.open(folder))
    except (KeyError, ValueError) as error:
        raise CorruptStore(f"{str(folder)!r} is damaged", fix=REBUILD) from error
    whole = all(part.arrays.keys() == kind.arrays for part in stage.parts.parts)
    if stage.parts.end < rows or not whole:
        raise CorruptStore(f"a part of {str(folder)!r} is missing", fix=REBUILD)
    return stage


def build_stage(
    kind: type[FirstStage], folder: Path, base: Path | None, files: VectorFiles, places: Places
) -> None:
    """Build a stage over all rows of vector files, from that of the generation before.

    Args:
        kind: Of ``STAGES``.
        folder: To write.
        base: Folder of the same kind over the same vector files, if there is one.
        files: Whose rows they are.
        places: Where the rows lie.
    """
    read = _reader(files)
    stage = open_stage(kind, base, 0) if base is not None else None
    new = places(stage.parts.end if stage else 0)
    if stage is None or stage.parts.end + len(new) > REFIT * stage.parts.tables.get("fitted", 0):
        base, new = None, places(0) if stage else new
        tokens = int(new[:, 1].sum())
        stage = kind.fit(_sample(read, new, kind.sample_size(tokens)), tokens)
        stage.parts.tables["fitted"] = np.array(len(new))
    for some in np.array_split(new, max(1, new[:, 1].sum() // _BATCH)):
        if len(some):
            # Rows are appended in order, so their tokens lie end to end.
            first, (offset, length) = some[0, 0], some[-1]
            stage.add(read(slice(first, offset + length)), some[:, 1])
    stage.parts.save(folder, base)


def _sample(read: Read, places: NDArray[np.int64], size: int) -> Vectors:
    """Read token vectors of rows drawn at random, some ``size`` in all, in random order."""
    rng, total = np.random.default_rng(0), int(places[:, 1].sum())
    chosen = np.sort(rng.permutation(len(places))[: -(-len(places) * size // max(total, 1))])
    slices = [slice(offset, offset + length) for offset, length in places[chosen]]
    return rng.permutation(np.concatenate([read(some) for some in slices]))


def _reader(files: VectorFiles) -> Read:
    """Return what reads a slice of the stored token vectors, each whole."""
    basis = files.basis
    if basis is None:
        raise CorruptStore(f"{str(files.folder)!r} has no basis", fix=REBUILD)
    dim, codec = basis.axes.shape[1], files.codec
    tokens = np.asarray(files.tokens(dim))
    return lambda some: decoded(codec, tokens[some], dim)
