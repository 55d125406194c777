"""Passages that keep their vectors while the query side is trained: stored ones, encoded once.

Training queries against vectors as they are served (ADORE, arXiv 2104.08051) spares encoding
passages in every epoch, and indexing them again afterwards.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ...core.documents import split_passage_id
from ...core.errors import REBUILD, CorruptStore
from ..codecs import decoded
from ..encoder import Encoded, Encoder
from ..index import Index
from ..vectors import Basis, stored_files
from .rows import Row, numbered
from .scoring import Frozen


class Stored(NamedTuple):
    """Vectors of an index, by passage id."""

    vectors: Callable[[Sequence[str]], dict[str, Encoded]]
    """Ids that are gone are left out; token vectors are projected onto the basis."""
    basis: Basis


def stored_vectors(index: Index) -> Stored:
    """Read the vectors of the served generation.

    Raises:
        CorruptStore: The vectors have lost their basis.
    """
    snapshot = index.snapshot()
    layout = snapshot.layout
    files = stored_files(index.root / "vectors", snapshot.manifest)
    basis = files.basis
    if basis is None:
        raise CorruptStore(f"{str(files.folder)!r} has no basis", fix=REBUILD)
    late_dim = basis.axes.shape[1]
    codec, dense, tokens = files.codec, files.dense(), files.tokens(late_dim)
    sql = """SELECT p.id FROM passages p JOIN documents d ON d.id = p.document
        WHERE d.doc_id = ? AND p.n = ? ORDER BY p.id DESC"""

    def vectors(passage_ids: Sequence[str]) -> dict[str, Encoded]:
        found: dict[str, Encoded] = {}
        for identifier in passage_ids:
            doc_id, n = split_passage_id(identifier)
            rows = [row[0] for row in index.corpus.rows(sql, (doc_id, n or 0))]
            for at in layout.find(np.array(rows, np.int64)):
                start, length = layout.offsets[at], layout.lengths[at]
                found[identifier] = Encoded(
                    np.array(dense[layout.rows[at]]),
                    decoded(codec, tokens[start : start + length], late_dim),
                )
        return found

    return Stored(vectors, basis)


def frozen_passages(
    base: Encoder,
    rows: Sequence[Row],
    known: dict[str, str],
    stored: Stored | None,
    *,
    late: bool,
) -> Frozen:
    """Return the vectors of rows' passages, by the numbers their labels give.

    What is not stored is encoded once; without an index, all of them.
    """
    ids = list(numbered(rows))
    found = stored.vectors(ids) if stored else {}
    missing = [identifier for identifier in ids if identifier not in found]
    for at, encoded in base.documents([known[i] for i in missing]):
        tokens = stored.basis.project(encoded.tokens) if stored else encoded.tokens
        found[missing[at]] = Encoded(encoded.dense, tokens)
    encoded = [found[identifier] for identifier in ids]
    return Frozen(encoded, late=late, basis=stored.basis if stored else None)
