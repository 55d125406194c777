"""Whatever writes with RAGatouille runs here, in a process of its own with a time limit.

colbert-ai seeds every random generator, hides graphics cards, prints and, when something goes
wrong, may wait forever: all that ends with the process. A job is one JSON object on standard
input; the parent learns its failure from the exit code and the last line of standard error.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

BATCH = 32


def index_path(folder: Path) -> Path:
    """Return where RAGatouille keeps its files inside an engine's folder."""
    return folder / "colbert" / "indexes" / "plaid"


def open_model(folder: Path, model: str) -> Any:
    """Load an index with its model as a ``RAGPretrainedModel``."""
    from .ragatouille_extensions import load_extensions
    from .ragatouille_mends import load, moved_index, silent_import

    package = load()
    load_extensions()
    with silent_import(), moved_index(str(folder), model):
        opened = package.from_index(index_path(folder), n_gpu=1, verbose=0)
        opened.model.checkpoint = model
        return opened


def build(folder: str, model: str, max_tokens: int, passages: Sequence[tuple[str, str]]) -> None:
    """Index ``(id, text)`` pairs in an empty folder."""
    from .ragatouille_extensions import load_extensions
    from .ragatouille_mends import load

    package = load()
    load_extensions()
    opened = package.from_pretrained(model, n_gpu=1, verbose=0, index_root=folder)
    opened.index(
        [text for _, text in passages],
        document_ids=[passage_id for passage_id, _ in passages],
        index_name="plaid",
        # True sleeps for twenty seconds first; False fails when it tries again with faiss.
        overwrite_index="force_silent_overwrite",
        max_document_length=max_tokens,
        split_documents=False,
        bsize=BATCH,
    )


def add(folder: str, model: str, max_tokens: int, passages: Sequence[tuple[str, str]]) -> None:
    """Add ``(id, text)`` pairs whose ids are new; few among many without indexing all again."""
    from .ragatouille_mends import counted_vectors, unpadded_cells

    unpadded_cells(index_path(Path(folder)))
    opened = open_model(Path(folder), model)
    colbert = opened.model
    kept = [
        (passage_id, colbert.collection[pid])
        for pid, passage_id in colbert.pid_docid_map.items()
        if passage_id is not None
    ]
    if colbert.model_index._should_rebuild(len(kept), len(passages)):
        # RAGatouille would index the texts of deleted passages again.
        build(folder, model, max_tokens, [*kept, *passages])
        return
    opened.add_to_index(
        [text for _, text in passages],
        new_document_ids=[passage_id for passage_id, _ in passages],
        split_documents=False,
        bsize=BATCH,
    )
    counted_vectors(index_path(Path(folder)))


def delete(folder: str, model: str, ids: Sequence[str]) -> None:
    """Delete passages by id."""
    from .ragatouille_mends import counted_vectors, kept_positions, unpadded_cells

    unpadded_cells(index_path(Path(folder)))
    opened = open_model(Path(folder), model)
    kept_positions(opened.model, lambda: opened.delete_from_index(frozenset(ids)))
    counted_vectors(index_path(Path(folder)))


def compile_extensions(root: str) -> None:
    """Compile colbert-ai's C++ into a folder."""
    from .ragatouille_extensions import compile_here
    from .ragatouille_mends import load

    load()
    compile_here(Path(root))


_OPERATIONS: Mapping[str, Callable[..., None]] = {
    "add": add,
    "build": build,
    "compile": compile_extensions,
    "delete": delete,
}

if __name__ == "__main__":
    _OPERATIONS[sys.argv[1]](**json.load(sys.stdin))
