"""Late interaction of a generation by RAGatouille: a PLAID index beside the keyword and dense ones.

Its passages are named by row id, so filters and fusion speak of the same passages as everywhere. A
generation takes over the index before it and changes what changed; where the checkpoint is another,
or there is none before, all passages are indexed. The folder moves with its generation.
"""

import shutil
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..core.batches import batched
from .ragatouille import EXHAUSTIVE, Passage, RagatouilleEngine
from .ranked import Ranked


class PlaidIndex:
    """Reads the index of a generation, which loads with the first query."""

    def __init__(self, folder: Path, model: str) -> None:
        """Read from a folder that :func:`build_plaid` filled.

        Args:
            folder: Of the index.
            model: Where its ColBERT checkpoint lies, or what it is called.
        """
        self._folder = folder
        self._model = model

    def search(self, query: str, k: int, within: NDArray[np.int64] | None = None) -> Ranked:
        """Rank passages by the engine's own stages; exact over few admitted ones."""
        admitted = None if within is None else [str(row) for row in within.tolist()]
        return _ranked(self._engine, query, k, admitted)

    def score(self, query: str, candidates: NDArray[np.int64]) -> Ranked:
        """Rank all candidates by MaxSim over the vectors as PLAID stores them."""
        parts = [
            _ranked(self._engine, query, len(part), [str(row) for row in part])
            for part in batched(candidates.tolist(), EXHAUSTIVE)
        ]
        ids, scores = zip(*(parts or [Ranked.empty()]), strict=True)
        return Ranked.of(np.concatenate(ids), np.concatenate(scores))

    @cached_property
    def _engine(self) -> RagatouilleEngine:
        return RagatouilleEngine.open(self._folder, self._model)


def build_plaid(
    folder: Path,
    base: Path | None,
    model: str,
    added: Iterable[tuple[int, str]],
    died: Iterable[int],
    max_tokens: int,
) -> None:
    """Make the index of a generation.

    Args:
        folder: Must not exist.
        base: The index of the same checkpoint that serves now, left as it is; None to index anew.
        model: A ColBERT checkpoint.
        added: Row ids and texts of passages that ``base`` lacks.
        died: Row ids of passages to remove; those that ``base`` lacks are none.
        max_tokens: Tokens of a passage that are read.

    Raises:
        ConfigError: The checkpoint is none.
        BackendUnavailable: RAGatouille or a C++ compiler is missing, or it failed.
    """
    passages = [Passage(str(row), text) for row, text in added]
    if base is None:
        RagatouilleEngine.build(folder, model, passages, max_tokens=max_tokens)
        return
    shutil.copytree(base, folder)
    engine = RagatouilleEngine.open(folder, model)
    engine.delete([name for name in map(str, died) if name in engine])
    engine.add(passages)


def _ranked(engine: RagatouilleEngine, query: str, k: int, admitted: list[str] | None) -> Ranked:
    found = engine.search(query, k, admitted)
    return Ranked.of([int(match.id) for match in found], [match.score for match in found])
