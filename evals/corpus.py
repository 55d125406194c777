"""The corpus of a dataset, brought into the workspace that is to be measured."""

from collections.abc import Sequence

from ..agents.workspace import Added, Workspace
from ..core.errors import ConfigError
from ..retrievers.progress import Progress, quiet
from .datasets import Dataset, Query

_SHOWN = 5


def add_corpus(
    workspace: Workspace, data: Dataset, queries: Sequence[Query], progress: Progress = quiet
) -> list[str]:
    """Index what is new of a corpus, and remove what came from it and is gone.

    Args:
        workspace: Gets it; what else it holds stays, and is noted.
        data: The dataset.
        queries: Those to be measured.
        progress: Is told what is being done.

    Returns:
        What a reader of the figures should know about the index.

    Raises:
        ConfigError: The corpus holds no document.
    """
    added = workspace.add(data.folder, sync=True, progress=progress)
    changes, generation = added.changes, added.changes.generation
    size = changes.added + changes.updated + changes.unchanged
    if not size:
        raise ConfigError(
            f"the corpus of {str(data.folder)!r} has no document",
            fix="; ".join(added.reading.problems[:_SHOWN]) or "give one with documents",
        )
    corpus = workspace.index.corpus
    wanted = sorted({doc_id for query in queries for doc_id in data.qrels[query.id]})
    found = {row[0] for row in corpus.metadata_of(None, generation, wanted)}
    return [
        *_reading_notes(added),
        *_some([doc_id for doc_id in wanted if doc_id not in found], "relevant documents are "
               "not in the corpus: no system can find them"),
        *_count(corpus.counts(generation)[0] - size, "documents of the workspace are not in the "
                "corpus and compete with it"),
    ]  # fmt: skip


def _reading_notes(added: Added) -> list[str]:
    reading, duplicates = added.reading, added.changes.duplicates
    return [
        *_count(reading.skipped, "lines of the corpus could not be read: left out"),
        *reading.problems[:_SHOWN],
        *_some(duplicates, "documents have an id that was there before: left out"),
    ]


def _some(ids: Sequence[str], what: str) -> list[str]:
    shown = ", ".join(map(repr, ids[:_SHOWN])) + (", …" if len(ids) > _SHOWN else "")
    return [f"{len(ids)} {what} ({shown})"] if ids else []


def _count(number: int, what: str) -> list[str]:
    return [f"{number} {what}"] if number > 0 else []
