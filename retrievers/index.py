"""Index: one corpus with all its retrievers; the only door for searching and changing it.

Changing takes the workspace's write lock, stages, builds aside and publishes in one step; readers
never wait and never see a half. What a killed process had staged is taken up by the next change.
"""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple

from ..core.batches import batched
from ..core.documents import Document
from ..core.locks import alone
from .builder import Builder
from .encoder import Encoder
from .learned_fusion import fused
from .progress import Progress, quiet
from .searcher import RETRIEVERS, FilterSource, Retriever, Searcher
from .snapshot import Snapshot
from .sparse_build import SparseSource
from .staging import Staging

__all__ = ["RETRIEVERS", "AddReport", "Candidate", "FilterSource", "Index", "Retriever"]

_STAGE_BATCH = 200


class AddReport(NamedTuple):
    """What an add did."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0
    duplicates: tuple[str, ...] = ()
    """Ids that came more than once; the first document of each was taken."""
    generation: int = 0
    cut: int | None = 0
    """Passages of the whole index that are longer than the encoder read; None if not counted."""


class Candidate:
    """A generation aside of what serves, with the snapshot to measure it by."""

    def __init__(self, snapshot: Snapshot) -> None:
        """Hold what may come to serve."""
        self.snapshot = snapshot
        self.wanted = False

    def publish(self) -> None:
        """Ask for it to be served when its context ends."""
        self.wanted = True


class Index(Searcher):
    """The retrievers over one workspace's corpus."""

    def add(
        self,
        documents: Iterable[Document],
        *,
        source: str | None = None,
        sync: bool = False,
        progress: Progress = quiet,
    ) -> AddReport:
        """Add or update documents and publish the new generation.

        Args:
            documents: Unchanged ones, by content hash, cost nothing.
            source: Where they come from; with ``sync`` documents of that source that are not
                among ``documents`` are removed.
            sync: See ``source``.
            progress: Is told about reading, encoding and building.

        Raises:
            WorkspaceLocked: Another process is writing.
        """
        with self._writing() as staging:
            counts = {"added": 0, "updated": 0, "unchanged": 0}
            seen: set[str] = set()
            duplicates: list[str] = []
            for batch in batched(_first(documents, seen, duplicates), _STAGE_BATCH):
                for outcome in staging.stage(batch, source):
                    counts[outcome] += 1
                progress("reading", len(seen), None)
            gone = staging.alive(source) - seen if sync and source is not None else set()
            removed = staging.remove(gone)
            generation = self._publish(staging, progress)
            return AddReport(
                **counts,
                removed=removed,
                duplicates=tuple(duplicates),
                generation=generation,
                cut=self.cut_passages(),
            )

    def remove(self, doc_ids: Collection[str], *, progress: Progress = quiet) -> int:
        """Remove documents and publish; returns how many there were."""
        with self._writing() as staging:
            removed = staging.remove(doc_ids)
            self._publish(staging, progress)
            return removed

    def swap(self, encoder: Encoder, *, progress: Progress = quiet) -> int:
        """Encode the corpus with another model and publish; searches never see a mixture."""
        with self.candidate(encoder, progress=progress) as candidate:
            candidate.publish()
        return self.generation

    def serve(self, encoder: str, query: str = "", *, progress: Progress = quiet) -> int:
        """Serve a pair of encoders: at once if the passages keep theirs, else encoding them aside.

        Args:
            encoder: Name of the passages' encoder.
            query: Version of the query side; empty for none.
            progress: Is told about encoding and building.

        Raises:
            CorruptStore: What is to serve is missing or damaged; nothing has changed.
            IndexMismatch: The query side is not for the passages of this encoder.
        """
        if encoder == self.published.encoder:
            prepared = self.query_candidate(query, progress=progress)
        else:
            # What is staged comes along: the encoder that serves may be what is missing.
            prepared = self.candidate(self.load(encoder), query, publish=False, progress=progress)
        with prepared as candidate:
            candidate.snapshot.encode("ready")
            candidate.publish()
        return self.generation

    @contextmanager
    def candidate(
        self,
        encoder: Encoder,
        query: str = "",
        *,
        publish: bool = True,
        progress: Progress = quiet,
    ) -> Iterator["Candidate"]:
        """Build a generation with another encoder aside, to be measured before it may serve.

        On leaving the context it is published if its ``publish`` was called, else deleted.

        Args:
            encoder: Of the passages.
            query: Version of the query side; empty for none.
            publish: Publish what was staged before with the encoder that serves, so that both
                generations hold the same documents; else they come with the candidate.
            progress: Is told about encoding and building.
        """
        with self._writing() as staging:
            self.encoders.check_weights(
                encoder.name
            )  # it was loaded before the lock: they may be pruned
            if publish:
                self._publish(staging, progress)
            encode = self.encoders.query_side(query, encoder) if query else encoder.query
            builder = self._builder(staging)
            built = builder.build(encoder, progress=progress)
            vectors = self.root / "vectors"
            settings = fused(self.settings, self.root / (query or encoder.name))
            asked = lru_cache(maxsize=4096)(encode)
            candidate = Candidate(Snapshot(built.folder, vectors, settings, asked, self.sparse))
            try:
                yield candidate
            finally:
                candidate.snapshot.close()
                if candidate.wanted:
                    builder.publish(built, query)
                    self.encoders.loaded = encoder
                else:
                    builder.discard(built)

    @contextmanager
    def query_candidate(self, query: str, *, progress: Progress = quiet) -> Iterator["Candidate"]:
        """Search what serves by another query side, to be measured before it may serve.

        No passage is encoded and no file copied: publishing it is one row of the database.

        Args:
            query: Its version; empty for the passages' encoder itself.
            progress: Is told of publishing what was staged before.
        """
        with self._writing() as staging:
            self._publish(staging, progress)
            wanted = self.published._replace(query=query)
            candidate = Candidate(self._open(wanted))
            try:
                yield candidate
            finally:
                candidate.snapshot.close()
            if candidate.wanted:
                staging.publish(
                    base=wanted.base,
                    encoder=wanted.encoder,
                    fingerprint=wanted.fingerprint,
                    query=query,
                    folder=wanted.folder,
                )

    def rebuild(self, *, progress: Progress = quiet) -> int:
        """Cut, encode and index the whole corpus again, as the settings now say."""
        with self._writing(check=False) as staging:
            published = self.published
            trained = published.encoder != published.base
            kept = trained and published.base == self.settings.encoder
            # First, as what cannot be loaded must leave nothing staged.
            encoder = self.load(published.encoder if kept else self.settings.encoder)
            self.sparse = SparseSource(self.root, self.settings)
            if self.settings.sparse_encoder:
                self.sparse.model()
            staged = staging.generation
            names = [row[0] for row in self.corpus.metadata_of(None, staged)]
            for done, doc_id in enumerate(names, 1):
                staging.recut(self.corpus.document(doc_id, staged))
                progress("cutting", done, len(names))
            builder = self._builder(staging)
            number = builder.publish(builder.build(encoder, fresh=True, progress=progress))
            self.encoders.loaded = encoder
            return number

    def _publish(self, staging: Staging, progress: Progress) -> int:
        published = self.corpus.published()
        if published is not None and not staging.changed():
            return published.number
        builder = self._builder(staging)
        return builder.publish(builder.build(self.encoder(), progress=progress))

    def _builder(self, staging: Staging) -> Builder:
        return Builder(self.root, self.corpus, staging, self.settings, self.sparse)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the write lock, so that nothing is published meanwhile.

        Raises:
            WorkspaceLocked: Another process is writing.
        """
        with self._writing(check=False):
            yield

    @contextmanager
    def _writing(self, *, check: bool = True) -> Iterator[Staging]:
        with alone(self.root / "write.lock", f"is writing to {str(self.root)!r}"):
            published = self.corpus.published()
            if check and published is not None:
                self._open(published, learned=False).close()  # which may be what is to be mended
            yield Staging(
                self.corpus,
                chunk_tokens=self.settings.chunk_tokens,
                language=self.settings.language,
            )


def _first(
    documents: Iterable[Document], seen: set[str], duplicates: list[str]
) -> Iterator[Document]:
    """Yield documents whose id is new, noting the others."""
    for document in documents:
        if document.id in seen:
            duplicates.append(document.id)
        else:
            seen.add(document.id)
            yield document
