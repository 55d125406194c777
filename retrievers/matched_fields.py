"""Matched fields: which field of a document a hit was found by.

Late and hybrid search say the field whose tokens met the query's for most of the late score,
keyword search the one that holds most of the query's words. A vector of a whole passage cannot
tell, unless the passage has one field only.
"""

from ..core.documents import Passage
from ..core.fields import part_texts
from .similarity_pooling import Pooling
from .snapshot import By, Snapshot
from .token_fields import FieldNumbers


def matched_field(snapshot: Snapshot, by: By, query: str, row: int, passage: Passage) -> str | None:
    """Return the field of a hit; None where there are no fields, or none can be told.

    Args:
        snapshot: What was searched.
        by: The retriever that ranked.
        query: What was looked for.
        row: The passage's row id.
        passage: What was found.
    """
    if not passage.fields:
        return None
    parts = part_texts(passage.title, passage.text, passage.fields)
    if by in ("dense", "sparse"):
        return next(iter(parts)) if len(parts) == 1 else None
    numbers = snapshot.token_fields(row)
    if by == "keyword" or snapshot.settings.ragatouille or numbers is None:
        return snapshot.keyword_field(query, parts)
    similarities = snapshot.similarities(query, row)
    if not len(similarities):
        return None
    fields = FieldNumbers(numbers, snapshot.field_names)
    return fields.best(similarities, Pooling.of(snapshot.settings))
