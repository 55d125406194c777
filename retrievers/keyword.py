"""Keyword retrieval: BM25 over stemmed words in a tantivy index, one document a passage.

The index holds no text, only postings and the passage's row id. Queries are parsed by
:mod:`.keyword_query`; filters arrive as row ids and restrict without touching the score.
"""

import json
import shutil
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError, CorruptStore
from ..core.shared_files import link_or_copy
from .keyword_fields import (
    BODY,
    PARTS,
    asked_terms,
    fullest_field,
    inverse_frequency,
    parts_text,
    weighted_query,
)
from .keyword_query import build_query, parse_keyword
from .ranked import Ranked
from .tokenizers import Tokenizer

_ANALYSER = "words"
_MARKED = "marked words"
_WRITER_BYTES = 64_000_000
_FEW = 5_000
"""Row ids that the engine takes as a set without delay."""

STEMMERS = {
    "ar": "arabic", "da": "danish", "de": "german", "el": "greek", "en": "english",
    "es": "spanish", "fi": "finnish", "fr": "french", "hu": "hungarian", "it": "italian",
    "nl": "dutch", "no": "norwegian", "pt": "portuguese", "ro": "romanian", "ru": "russian",
    "sv": "swedish", "ta": "tamil", "tr": "turkish",
}  # fmt: skip
"""Languages with a stemmer; others are matched word by word."""


class KeywordIndex:
    """A published keyword index, read only."""

    def __init__(
        self,
        folder: Path,
        language: str,
        tokenizer: Tokenizer | None = None,
        names: Sequence[str] = (),
        weights: Mapping[str, float] | None = None,
    ) -> None:
        """Open an index.

        Args:
            folder: Its files.
            language: Whose stemmer it was built with.
            tokenizer: That it was built with, if not for the language's words.
            names: Fields that it tells apart.
            weights: Of fields, 1 where nothing is said.
        """
        self._index, self._analyser = _open(folder, language, tokenizer, fielded=bool(names))
        self._folder = folder
        self._tokenizer = tokenizer
        self._weights = {name: (weights or {}).get(name, 1.0) for name in names}
        self._searcher = self._index.searcher()
        self._schema = self._index.schema

    def search(self, query: str, k: int, within: NDArray[np.int64] | None = None) -> Ranked:
        """Rank passages by BM25, at most k, restricted to the sorted row ids ``within``."""
        from tantivy import Occur, Query

        group = parse_keyword(query)
        parsed = build_query(group, self._schema, BODY, self.analyse)
        if parsed is None or k < 1 or (within is not None and not len(within)):
            return Ranked.empty()
        if any(weight != 1 for weight in self._weights.values()):
            terms = asked_terms(group, self.analyse)
            parsed = weighted_query(parsed, terms, self._schema, self._weights, self._idf)
        if within is not None and (found := self._deeper(parsed, k, within)) is not None:
            return found
        if within is not None:
            member = Query.term_set_query(self._schema, "id", within.tolist())
            parsed = Query.boolean_query(
                [(Occur.Must, parsed), (Occur.Must, Query.const_score_query(member, 0.0))]
            )
        return self._ranked(parsed, k)

    def _deeper(self, parsed: Any, k: int, within: NDArray[np.int64]) -> Ranked | None:
        """Rank all so deep that k admitted ones should be among them; None if they are not.

        The engine reads each id of a set as one term, so that a large set costs more than a deep
        list, which has the same best by the same scores.
        """
        size = self._searcher.num_docs
        depth = 2 * k * size // len(within) + k
        if len(within) <= max(depth, _FEW):
            return None
        found = self._ranked(parsed, depth)
        at = np.minimum(np.searchsorted(within, found.ids), len(within) - 1)
        admitted = within[at] == found.ids
        if admitted.sum() < k and len(found.ids) == min(depth, size):
            return None
        return Ranked(found.ids[admitted], found.scores[admitted]).top(k)

    def _ranked(self, parsed: Any, k: int) -> Ranked:
        limit = min(k, max(1, self._searcher.num_docs))  # the engine allocates all it might return
        found = self._searcher.search(parsed, limit=limit, count=False).hits
        ids = self._searcher.fast_field_values("id", [address for _, address in found])
        return Ranked.of(ids, [score for score, _ in found])

    def field(self, query: str, parts: Mapping[str, str]) -> str | None:
        """Return the field of a passage, given by name, that holds most of a query's terms."""
        terms = asked_terms(parse_keyword(query), self.analyse)
        idf = {term: self._idf(BODY, term) for term in terms}
        return fullest_field(idf, parts, self.analyse, self._weights)

    def _idf(self, field: str, term: str) -> float:
        """Return the engine's idf of a term; 0 of one that no passage holds."""
        holding = self._searcher.doc_freq(field, term)
        return inverse_frequency(self._counted, holding) if holding else 0.0

    @cached_property
    def _counted(self) -> int:
        """How many passages the engine's statistics count: removed ones stay in its segments."""
        meta = json.loads((self._folder / "meta.json").read_bytes())
        return sum(segment["max_doc"] for segment in meta["segments"])

    def analyse(self, text: str) -> list[str]:
        """Return the index terms of a text."""
        return self._analyser.analyze(_read(text, self._tokenizer))


class KeywordWriter:
    """Builds an index in a fresh folder, from the one before if there is one."""

    def __init__(
        self,
        folder: Path,
        language: str,
        base: Path | None = None,
        tokenizer: Tokenizer | None = None,
        *,
        fielded: bool = False,
    ) -> None:
        """Start empty, or from the files of ``base``; ``fielded`` to tell fields apart."""
        if base is not None and base.exists():
            # The engine writes files once and replaces what changes, so those before may be shared.
            ignored = shutil.ignore_patterns("*.lock")
            shutil.copytree(base, folder, ignore=ignored, copy_function=link_or_copy)
        folder.mkdir(parents=True, exist_ok=True)
        self._index, self._analyser = _open(
            folder, language, tokenizer, create=True, fielded=fielded
        )
        self._tokenizer = tokenizer
        self._writer = self._index.writer(heap_size=_WRITER_BYTES, num_threads=1)

    def add(
        self,
        passages: Iterable[tuple[int, str, str]],
        parts: Mapping[int, Mapping[str, str]] | None = None,
    ) -> None:
        """Add ``(row id, title, text)``, and by row id what is told apart: texts by field."""
        from tantivy import Document

        for row, title, text in passages:
            document = Document()
            document.add_unsigned("id", row)
            body = f"{title}\n{text}" if title else text
            document.add_text(BODY, _read(body, self._tokenizer))
            if parts:
                document.add_text(PARTS, parts_text(parts[row], self._terms))
            with _writing():
                self._writer.add_document(document)

    def _terms(self, text: str) -> list[str]:
        return self._analyser.analyze(_read(text, self._tokenizer))

    def remove(self, rows: Iterable[int]) -> None:
        """Remove passages by row id."""
        from tantivy import Query

        ids = list(rows)
        if ids:
            member = Query.term_set_query(self._index.schema, "id", ids)
            self._writer.delete_documents_by_query(member)

    def commit(self) -> None:
        """Finish: everything is on disk when this returns."""
        with _writing():
            self._writer.commit()
            self._writer.wait_merging_threads()


def _read(text: str, tokenizer: Tokenizer | None) -> str:
    return tokenizer.joined(text) if tokenizer else text


@contextmanager
def _writing() -> Generator[None]:
    try:
        yield
    except ValueError as error:
        raise ConfigError(
            f"the keyword index cannot be written ({error})",
            fix="free disk space and try again; what was encoded is kept",
        ) from error


def _open(
    folder: Path,
    language: str,
    tokenizer: Tokenizer | None,
    *,
    create: bool = False,
    fielded: bool = False,
) -> tuple[Any, Any]:
    import tantivy

    builder = tantivy.SchemaBuilder()
    builder.add_unsigned_field("id", indexed=True, fast=True)
    builder.add_text_field(BODY, tokenizer_name=_ANALYSER)
    if fielded:
        builder.add_text_field(PARTS, tokenizer_name=_MARKED)
    if not create and not (folder.is_dir() and tantivy.Index.exists(str(folder))):
        raise CorruptStore(
            f"the keyword index {str(folder)!r} is missing", fix="retrail doctor --rebuild"
        )
    try:
        index = tantivy.Index(builder.build(), path=str(folder))
    except ValueError as error:
        raise CorruptStore(
            f"the keyword index {str(folder)!r} is damaged ({error})",
            fix="retrail doctor --rebuild",
        ) from error
    analyser = _analyser("" if tokenizer else language, pretokenized=tokenizer is not None)
    index.register_tokenizer(_ANALYSER, analyser)
    index.register_tokenizer(
        _MARKED, tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace()).build()
    )
    return index, analyser


def _analyser(language: str, *, pretokenized: bool) -> Any:
    from tantivy import Filter, TextAnalyzerBuilder
    from tantivy import Tokenizer as Splitter

    builder = (
        TextAnalyzerBuilder(Splitter.whitespace() if pretokenized else Splitter.simple())
        .filter(Filter.remove_long(80))
        .filter(Filter.lowercase())
        .filter(Filter.ascii_fold())
    )
    if language in STEMMERS:
        builder = builder.filter(Filter.stemmer(STEMMERS[language]))
    return builder.build()
