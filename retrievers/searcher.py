"""Searcher: the reading half of the index.

Searching needs no lock and always sees one published generation, the newest; a long-lived process
notices a new one at its next search. Queries are encoded once, however many retrievers ask.
"""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import RLock
from typing import Any, Literal, get_args

import numpy as np

from ..core.documents import Hit, Passage, split_passage_id
from ..core.errors import REBUILD, ConfigError, IndexMismatch
from ..core.filters import Comparison, Filter, parse_filter
from ..core.schema import MetadataSchema
from ..core.settings import Diversify, Settings
from .best_documents import HybridOptions, best_documents
from .builder import built_from
from .corpus import Corpus, Published
from .encoder import Encoder
from .encoders import Encoders
from .explain import Explanation, Tokens, explain
from .learned_fusion import fused
from .matched_fields import matched_field
from .ranked import Ranked
from .similarity_pooling import Pooling
from .snapshot import By, Snapshot, read_manifest
from .sparse_build import SparseSource
from .staging import encoder_text
from .thought import ThoughtQuery
from .token_fields import FieldNumbers, check_weights, read_parts, token_numbers
from .vectors import vectors_of

Retriever = Literal["keyword", "dense", "late", "sparse", "filtered", "hybrid"]
RETRIEVERS: tuple[Retriever, ...] = get_args(Retriever)

FilterSource = str | Mapping[str, Any] | Filter | None
"""A filter as text, as JSON, parsed, or none."""

MAX_QUERY_CHARACTERS = 20_000


class Searcher:
    """The retrievers over one workspace's corpus, for reading."""

    def __init__(
        self, root: Path, settings: Settings | None = None, encoder: Encoder | None = None
    ) -> None:
        """Open the index in a folder, creating its database if need be.

        Args:
            root: The workspace directory.
            settings: How to build and search; the defaults if not given.
            encoder: A loaded model to use instead of loading the one the index names.
        """
        self.root = root
        self.settings = settings or Settings()
        self.corpus = Corpus(root / "corpus.db")
        self.sparse = SparseSource(root, self.settings)
        self.encoders = Encoders(root, self.settings, encoder)
        self._snapshot: tuple[int, Snapshot] | None = None
        self._lock = RLock()

    def close(self) -> None:
        """Release all files."""
        with self._lock:
            if self._snapshot:
                self._snapshot[1].close()
                self._snapshot = None
            self.corpus.close()

    @property
    def published(self) -> Published:
        """The generation that is served.

        Raises:
            ConfigError: Nothing has been indexed yet.
        """
        published = self.corpus.published()
        if published is None:
            raise ConfigError("the index is empty", fix="retrail add PATH… puts documents in")
        return published

    @property
    def generation(self) -> int:
        """The number of the generation that is served."""
        return self.published.number

    def schema(self) -> MetadataSchema:
        """The metadata fields of the corpus."""
        return self.corpus.schema(self.generation)

    def filter(self, where: FilterSource) -> Filter | None:
        """Parse a filter and check it against the corpus' fields."""
        parsed = parse_filter(where)
        if parsed is not None:
            self.schema().check(parsed)
        return parsed

    def search(
        self,
        query: str,
        *,
        by: Retriever = "hybrid",
        k: int = 10,
        where: FilterSource = None,
        rank_by: By = "hybrid",
        order_by: str | None = None,
        diversify: Diversify | None = None,
        diversify_lambda: float | None = None,
        expand: int | None = None,
        thought: str | None = None,
    ) -> list[Hit]:
        """Find the k best documents, each by its best passage.

        Args:
            query: What to look for.
            by: The retriever. ``filtered`` needs ``where``; it ranks the admitted passages with
                ``rank_by``, or lists them when the query is empty.
            k: Documents wanted.
            where: A filter; every retriever sees the same candidates.
            rank_by: The retriever that ranks for ``filtered``.
            order_by: A field to list by for ``filtered``, ``-field`` for descending.
            diversify: Of hybrid search, see ``diversify``; as the settings say if not given.
            diversify_lambda: Of it, from 0 to 1; as the settings say if not given.
            expand: Neighbours of each of the best candidates of hybrid search that become
                candidates too, see ``expansion``; as the settings say if not given.
            thought: What led to the query; read with it where ``query_thought`` is set.

        Raises:
            ConfigError: The query is empty or too long, it or its thought is not valid Unicode, k
                is below 1, or an option is unknown, out of range, or of another retriever.
            FilterError: The filter is malformed or names an unknown field.
        """
        _check(query, by, rank_by, k)
        ranker: By = rank_by if by == "filtered" else by
        options = HybridOptions(diversify, diversify_lambda, expand)
        options.check(ranker)
        admitted = self.filter(where)
        if by == "filtered" and admitted is None:
            raise ConfigError("filtered search needs a filter", fix="pass where=…")
        if by == "filtered" and (order_by or not query.strip()):
            return self._list(admitted, k, order_by)
        if not query.strip():
            raise ConfigError("the query is empty", fix="say what to look for")
        generation, snapshot = self._serving()
        within = self.corpus.candidates(admitted, generation) if admitted else None
        if self.settings.query_thought and thought and thought.strip():
            _check_unicode(thought, "thought")
            query = ThoughtQuery(query, thought, self.settings.max_tokens)
        ranked = best_documents(snapshot, self.corpus, ranker, query, k, within, options)
        return self._hits(ranked, by, partial(matched_field, snapshot, ranker, query))

    def search_in(self, snapshot: Snapshot, query: str, by: By, k: int) -> list[Hit]:
        """Search a given generation, such as a candidate that does not serve yet."""
        return self._hits(best_documents(snapshot, self.corpus, by, query, k), by)

    def explain(self, query: str, identifier: str) -> Explanation:
        """Say which words of a passage give it its late score.

        Args:
            query: What is looked for.
            identifier: A passage's id, or a document's: its best passage is taken.

        Raises:
            ConfigError: The query is empty or too long, or late search cannot be explained.
            ToolError: There is no such passage.
        """
        _check(query, "late", "late", 1)
        if not query.strip():
            raise ConfigError("the query is empty", fix="say what to look for")
        if self.settings.ragatouille:
            raise ConfigError(
                "RAGatouille's late search cannot be explained",
                fix="remove 'ragatouille' from settings.toml, then retrail doctor --rebuild",
            )
        generation, snapshot = self._serving()
        doc_id, n = self.corpus.open(identifier, generation)
        rows = self.corpus.passage_rows(doc_id, n, generation)
        (row, *_) = snapshot.late(query, len(rows), rows).ids.tolist()
        passage = self.corpus.passages([row])[row]
        encoder = self.encoders.reader(self.published)
        text, again = encoder_text(passage.title, passage.text), None
        if self.settings.late_tokens != "all":
            ((_, encoded),) = encoder.documents([text])
            again = encoded.tokens
        spans, names = encoder.token_spans(text, "document"), snapshot.field_names
        parts = read_parts(passage.title, passage.text, passage.fields) if names else ()
        numbers = token_numbers(spans, parts, names)
        return explain(
            Tokens(encoder.token_spans(query, "query"), query),
            passage,
            spans,
            snapshot.similarities(query, row, again, numbers),
            pooling=Pooling.of(self.settings),
            stored=again is None,
            fields=FieldNumbers(numbers, names) if passage.fields else None,
        )

    def passages(self, passage_ids: Iterable[str]) -> dict[str, Passage]:
        """Return passages by id, in the order asked for; ids that are gone are left out."""
        published = self.corpus.published()
        found: dict[str, Passage] = {}
        if published is None:
            return found
        for identifier in passage_ids:
            doc_id, n = split_passage_id(identifier)
            for passage in self.corpus.window(doc_id, published.number, n or 0, n or 0):
                found[identifier] = passage
        return found

    def texts(self, passage_ids: Iterable[str]) -> dict[str, str]:
        """Return what the encoder reads of passages, by id; ids that are gone are left out."""
        found = self.passages(passage_ids)
        return {name: encoder_text(p.title, p.text) for name, p in found.items()}

    def similarities(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return the cosine of each text with a query, by the encoders that serve."""
        published = self.corpus.published()
        encoder = self.encoders.reader(published)
        vector = (self.snapshot().encode if published else encoder.query)(query).dense
        cosines = [0.0] * len(texts)
        for at, encoded in encoder.documents(texts):
            cosines[at] = float(encoded.dense @ vector)
        return cosines

    def cut_passages(self) -> int | None:
        """Return how many passages are longer than the encoder read; None if not all were counted.

        Raises:
            ConfigError: Nothing has been indexed yet.
            CorruptStore: The index is damaged.
        """
        published = self.published
        manifest = read_manifest(self.root / "index" / str(published.folder))
        return self.corpus.cut(published.number, vectors_of(manifest))

    def values(self) -> dict[str, list[str]]:
        """Return the distinct values of each text field that has few of them."""
        return self.corpus.values(self.generation)

    def sample(self, count: int, seed: int = 0) -> list[str]:
        """Return the ids of random passages, the same for the same corpus and seed."""
        ids = self.snapshot().layout.ids
        chosen = random.Random(seed).sample(range(len(ids)), min(count, len(ids)))
        return [passage.id for passage in self.corpus.passages(ids[chosen].tolist()).values()]

    def snapshot(self) -> Snapshot:
        """Return the served generation, reopened if a newer one was published."""
        return self._serving()[1]

    def _serving(self) -> tuple[int, Snapshot]:
        with self._lock:
            published = self.published
            if self._snapshot is None or self._snapshot[0] != published.number:
                self._snapshot = (published.number, self._open(published))
            return self._snapshot

    def encoder(self) -> Encoder:
        """Return the model that encodes passages, loading it on first use."""
        return self.encoders.of(self.corpus.published())

    def load(self, name: str) -> Encoder:
        """Load an encoder by name, path, or path relative to the workspace."""
        return self.encoders.load(name)

    def _open(self, published: Published, *, learned: bool = True) -> Snapshot:
        """Open a generation after checking that the settings are those it was built with."""
        folder = self.root / published.serving
        snapshot = Snapshot(
            self.root / "index" / str(published.folder),
            self.root / "vectors",
            fused(self.settings, folder) if learned else self.settings,
            self.encoders.queries(published),
            self.sparse,
        )
        wanted = built_from(self.settings) | {"encoder": self.settings.encoder}
        found = {name: snapshot.manifest.get(name) for name in wanted}
        found["encoder"] = published.base
        for name, value in wanted.items():
            if found[name] != value:
                raise IndexMismatch(
                    f"the index was built with another {name!r} than the settings name",
                    expected=str(value),
                    found=str(found[name]),
                    mend=f"{REBUILD}, or set it back in settings.toml",
                )
        check_weights(self.settings, snapshot.field_names)
        return snapshot

    def _list(self, where: Filter | None, k: int, order_by: str | None) -> list[Hit]:
        if order_by:
            self.schema().check(
                Comparison(field=order_by.removeprefix("-"), op="exists", value=True)
            )
        rows = self.corpus.listed(where, self.generation, order_by, k)
        return self._hits(
            Ranked(np.array(rows, np.int64), np.zeros(len(rows), np.float32)), "filtered"
        )

    def _hits(
        self,
        ranked: Ranked,
        retriever: str,
        field: Callable[[int, Passage], str | None] = lambda row, passage: None,
    ) -> list[Hit]:
        passages = self.corpus.passages(ranked.ids.tolist())
        found = [
            (passages[row], score, field(row, passages[row]))
            for row, score in zip(ranked.ids.tolist(), ranked.scores.tolist(), strict=True)
            if row in passages
        ]
        return [
            Hit(passage, score, rank, retriever, matched)
            for rank, (passage, score, matched) in enumerate(found, 1)
        ]


def _check(query: str, by: str, rank_by: str, k: int) -> None:
    for name, known in ((by, RETRIEVERS), (rank_by, get_args(By))):
        if name not in known:
            raise ConfigError(f"unknown retriever {name!r}", fix=f"use one of {', '.join(known)}")
    if k < 1:
        raise ConfigError(f"k is {k}", fix="ask for at least 1")
    if len(query) > MAX_QUERY_CHARACTERS:
        raise ConfigError(
            f"the query has {len(query)} characters", fix=f"use at most {MAX_QUERY_CHARACTERS}"
        )
    _check_unicode(query, "query")


def _check_unicode(text: str, what: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"the {what} is not valid Unicode", fix="remove its unpaired surrogates"
        ) from error
