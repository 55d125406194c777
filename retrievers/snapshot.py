"""Snapshot: one published generation, opened for reading, with every way to rank its passages.

All rankings of a snapshot come from the same corpus state, encoder and candidate set. The heavy
files are opened when a ranking first needs them, so a keyword search loads no vectors.
"""

import json
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..core.errors import REBUILD, CorruptStore, IndexMismatch
from ..core.settings import Settings
from .backends.base import VectorBackend
from .checkpoint import inside
from .dense import BEFORE_ENGINES, open_dense
from .encoder import Encoded, Vectors
from .expansion import SEEDS, joined, neighbours
from .first_stage import STAGES, FirstStage, open_stage, propose, stage_of
from .fusion import fuse
from .keyword import KeywordIndex
from .late import LateScorer, Layout
from .ranked import Ranked
from .similarity_pooling import Pooling
from .sparse import SparseIndex
from .sparse_build import SparseSource, open_index
from .token_fields import Numbers, TokenWeights, check_numbers, weight_table
from .tokenizers import WORDS, keyword_tokenizer
from .vectors import DAMAGED, VectorFiles, stored_files

if TYPE_CHECKING:
    from .plaid import PlaidIndex

By = Literal["keyword", "dense", "late", "sparse", "hybrid"]
Within = NDArray[np.int64] | None

_BEFORE_CHOICES = {
    "long_texts": "cut",
    "tokenizer": WORDS,
    "encoder_tokenizer": "",
    "late_codec": "fp16",
    "late_tokens": "all",
    "late_stage": "union",
    "sparse_encoder": "",
    "ragatouille": "",
    "fields": [],
} | BEFORE_ENGINES
"""What manifests say that were written before there was a choice."""


_COSINES = 4_096
"""Dense vectors read at once."""


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return what a generation was built from."""
    path = folder / "manifest.json"
    try:
        return _BEFORE_CHOICES | json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError) as error:
        raise CorruptStore(f"{str(path)!r} is missing or damaged", fix=REBUILD) from error


def read_layout(folder: Path) -> Layout:
    """Return where the vectors of a generation's passages lie."""
    path = folder / "layout.npz"
    try:
        with path.open("rb") as file, np.load(file) as stored:
            return Layout(*(stored[name] for name in Layout._fields))
    except DAMAGED as error:
        raise CorruptStore(f"{str(path)!r} is missing or damaged", fix=REBUILD) from error


class Snapshot:
    """Read access to one generation."""

    def __init__(
        self,
        folder: Path,
        vectors: Path,
        settings: Settings,
        encode: Callable[[str], Encoded],
        sparse: SparseSource | None = None,
    ) -> None:
        """Open a generation's folder.

        Args:
            folder: What was built.
            vectors: Holds the vector files of every encoder.
            settings: How to search.
            encode: Encodes queries with the model that encoded the passages.
            sparse: Does so for sparse retrieval; opened if not given.
        """
        self.folder = folder
        self.settings = settings
        self.encode = encode
        self._root = vectors
        self._sparse_source = sparse or SparseSource(vectors.parent, settings)

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What the generation was built from."""
        return read_manifest(self.folder)

    @cached_property
    def layout(self) -> Layout:
        """Where each passage's vectors lie."""
        return read_layout(self.folder)

    def rank(
        self, by: By, query: str, k: int, within: Within = None, expand: int | None = None
    ) -> Ranked:
        """Rank passages, at most k (late and hybrid: at most what their candidates hold)."""
        if by == "keyword":
            return self.keyword(query, k, within)
        if by == "dense":
            return self.dense(query, k, within)
        if by == "sparse":
            return self.sparse(query, k, within)
        depth = max(k, self.settings.candidates)
        if by == "late":
            return self.late(query, depth, within).top(k)
        return self.hybrid(query, depth, within, expand).top(k)

    def keyword(self, query: str, k: int, within: Within = None) -> Ranked:
        """Rank by BM25."""
        return self._keyword.search(query, k, within)

    def dense(self, query: str, k: int, within: Within = None) -> Ranked:
        """Rank by cosine of the dense vectors: all by the vector engine, some exactly."""
        return self._nearest(self.encode(query).dense, k, within)

    def _nearest(self, vector: Vectors, k: int, within: Within) -> Ranked:
        # Comparing with each of a few thousand costs less than sending their ids to an engine.
        if within is not None:
            return self._cosine(vector, within).top(k)
        return self._dense.search(vector, k)

    def sparse(self, query: str, k: int, within: Within = None) -> Ranked:
        """Rank by inner product of learned term weights."""
        index = self._sparse
        terms = self._sparse_source.encode(query, self.manifest["sparse"])
        return index.search(terms, k, within)

    def late(self, query: str, depth: int, within: Within = None) -> Ranked:
        """Rank the candidates of the first stage by exact MaxSim.

        Of dense ∪ keyword these are ``depth`` from each; another stage's order is approximate and
        gives ``4 * depth``, which hold as many of the best.
        """
        if self._stage is None:
            candidates = self._candidates(query, depth, within)[1]
        else:
            candidates = self._proposed(self._stage, query, 4 * depth, within)
        if not len(candidates):
            return Ranked.empty()
        return self._score_late(query, candidates)

    def hybrid(
        self, query: str, depth: int, within: Within = None, expand: int | None = None
    ) -> Ranked:
        """Fuse the rankings of :meth:`rankings`."""
        return self._fused(self.rankings(query, depth, within, expand))

    def rankings(
        self, query: str, depth: int, within: Within = None, expand: int | None = None
    ) -> dict[str, Ranked]:
        """Rank the candidates of all retrievers, ``depth`` from each, by each of them.

        Keyword and dense propose and, where there is one, the first stage of late interaction and
        the sparse encoder. Each candidate gets its true score from all, whoever proposed it; one
        that holds no word of the query has none by keyword.

        Args:
            query: What to look for.
            depth: Candidates of each.
            within: Row ids that a filter admits.
            expand: Neighbours of each of the best that join; as the settings say if not given.
        """
        keyword, candidates = self._candidates(query, depth, within)
        if self.manifest.get("sparse"):
            candidates = np.union1d(candidates, self.sparse(query, depth, within).ids)
        if self._stage is not None:
            candidates = np.union1d(candidates, self._proposed(self._stage, query, depth, within))
        if self.settings.ragatouille:
            candidates = np.union1d(candidates, self._plaid.search(query, depth, within).ids)
        if not len(candidates):
            return {}
        found = self._rankings(query, candidates, keyword)
        count = self.settings.expand if expand is None else expand
        if not count:
            return found
        best = self.dense_vectors(self._fused(found).ids[:SEEDS])
        more = neighbours(best, count, lambda v, k: self._nearest(v, k, within), candidates)
        return joined(found, self._rankings(query, more, Ranked.empty())) if len(more) else found

    def _fused(self, rankings: dict[str, Ranked]) -> Ranked:
        return fuse(rankings, self.settings.weights.model_dump(), self.settings.fusion)

    def _rankings(
        self, query: str, candidates: NDArray[np.int64], keyword: Ranked
    ) -> dict[str, Ranked]:
        """Rank candidates by each retriever; some are ranked by keyword already."""
        known = np.isin(candidates, keyword.ids)
        others = self.keyword(query, len(candidates), candidates[~known])
        rankings = {
            "keyword": Ranked.of(
                np.concatenate([keyword.ids, others.ids]),
                np.concatenate([keyword.scores, others.scores]),
            ),
            "dense": self._cosine(self.encode(query).dense, candidates),
            "late": self._score_late(query, candidates),
        }
        if self.manifest.get("sparse"):
            rankings["sparse"] = self.sparse(query, len(candidates), candidates)
        return rankings

    def similarities(
        self,
        query: str,
        row: int,
        tokens: Vectors | None = None,
        fields: Numbers | None = None,
    ) -> Vectors:
        """Return the similarities that a passage's late score is pooled from.

        Args:
            query: What is looked for.
            row: The passage's row id.
            tokens: Its token vectors; the stored ones if not given.
            fields: Numbers of their fields, where tokens are given.

        Returns:
            Shape ``(passage tokens, query tokens)``.
        """
        if fields is None and tokens is None:
            fields = self.token_fields(row)
        return self._late.similarities(self.encode(query).tokens, row, tokens, fields)

    @property
    def field_names(self) -> list[str]:
        """The fields that the index tells apart, as numbered from 1; empty if it does not."""
        return self.manifest["fields"]

    def token_fields(self, row: int) -> Numbers | None:
        """Return the numbers of the fields of a passage's stored token vectors, if kept."""
        if self._fields is None:
            return None
        numbers = self._fields[self._late.place(row)]
        check_numbers(numbers, len(self.field_names))
        return numbers

    def keyword_field(self, query: str, parts: Mapping[str, str]) -> str | None:
        """Return the field of a passage, given by name, that holds most of a query's terms."""
        return self._keyword.field(query, parts)

    def documents(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the document row id of each passage row id."""
        return self.layout.documents[self.layout.find(ids)]

    def close(self) -> None:
        """Release the files or the connection of the vector engine."""
        if "_dense" in self.__dict__:
            self._dense.close()

    def _candidates(
        self, query: str, depth: int, within: Within
    ) -> tuple[Ranked, NDArray[np.int64]]:
        keyword = self.keyword(query, depth, within)
        if within is not None and len(within) <= depth:
            return keyword, within
        return keyword, np.union1d(keyword.ids, self.dense(query, depth, within).ids)

    def _proposed(
        self, stage: FirstStage, query: str, depth: int, within: Within
    ) -> NDArray[np.int64]:
        tokens = self._late.project(self.encode(query).tokens)
        return propose(stage, tokens, self.layout, depth, within)

    def _score_late(self, query: str, candidates: NDArray[np.int64]) -> Ranked:
        if self.settings.ragatouille:
            return self._plaid.score(query, candidates)
        return self._late.score(self.encode(query).tokens, candidates)

    def dense_vectors(self, ids: NDArray[np.int64]) -> Vectors:
        """Return the dense vectors of passages by row id, in the order of the ids."""
        return self._dense_vectors[self.layout.rows[self.layout.find(ids)]]

    def _cosine(self, vector: Vectors, ids: NDArray[np.int64]) -> Ranked:
        at = self.layout.find(ids)
        # Part by part, as together the vectors of many may not fit into memory.
        parts = np.array_split(self.layout.rows[at], max(1, len(at) // _COSINES))
        scores = [self._dense_vectors[part] @ vector for part in parts]
        return Ranked.of(self.layout.ids[at], np.concatenate(scores))

    @cached_property
    def _keyword(self) -> KeywordIndex:
        weights, tokenizer = self.settings.field_weights, self.manifest["tokenizer"]
        return KeywordIndex(
            self.folder / "keyword",
            self.settings.language,
            keyword_tokenizer(tokenizer),
            self.field_names,
            weights,
        )

    @cached_property
    def _dense(self) -> VectorBackend:
        return open_dense(self.folder / "dense", self.settings, self.manifest)

    @cached_property
    def _sparse(self) -> SparseIndex:
        return open_index(self.folder, self.manifest, self.layout)

    @cached_property
    def _plaid(self) -> "PlaidIndex":
        from .plaid import PlaidIndex

        model = inside(self._root.parent, self.settings.ragatouille)
        return PlaidIndex(self.folder / "plaid", model)

    @cached_property
    def _files(self) -> VectorFiles:
        return stored_files(self._root, self.manifest)

    @cached_property
    def _dense_vectors(self) -> NDArray[np.float32]:
        vectors = self._files.dense()
        self._check_length(len(vectors), self.layout.rows + 1)
        return vectors

    @cached_property
    def _late(self) -> LateScorer:
        basis = self._files.basis
        if basis is None:
            raise CorruptStore(f"{str(self._files.folder)!r} has no basis", fix=REBUILD)
        tokens = self._files.tokens(basis.axes.shape[1])
        self._check_length(len(tokens), self.layout.offsets + self.layout.lengths)
        pooling = Pooling.of(self.settings)
        table = weight_table(self.field_names, self.settings.field_weights)
        numbers = self._fields
        weights = None if table is None or numbers is None else TokenWeights(numbers, table)
        return LateScorer(self.layout, tokens, basis, self._files.codec, pooling, weights)

    @cached_property
    def _fields(self) -> Numbers | None:
        """The number of each stored token vector's field."""
        if not self.field_names:
            return None
        numbers = self._files.fields()
        self._check_length(len(numbers), self.layout.offsets + self.layout.lengths)
        return np.asarray(numbers)

    @cached_property
    def _stage(self) -> FirstStage | None:
        """What proposes candidates beside dense and keyword search, if anything does."""
        asked, built = self.settings.late_stage, self.manifest["late_stage"]
        wanted = built if asked == "auto" else stage_of(self.settings, len(self.layout.ids))
        if wanted == "union":
            return None
        if wanted != built:
            raise IndexMismatch(
                "the index was built with another 'late_stage' than the settings name",
                expected=wanted,
                found=built,
                mend=f"the next change of the corpus builds it, as {REBUILD} does",
            )
        rows = int(self.layout.rows.max(initial=-1)) + 1
        return open_stage(STAGES[built], self.folder / "first_stage", rows)

    def _check_length(self, stored: int, ends: NDArray[np.int64]) -> None:
        if ends.max(initial=0) > stored:
            raise CorruptStore(f"vectors in {str(self._files.folder)!r} are missing", fix=REBUILD)
