"""Query drift: how far training moved an encoder's queries, so that the old index can be searched.

QDC (arXiv 2506.00037): the mean, over training queries, of what a new model's vector of a query
differs by from the old model's; one vector for dense, and one for tokens, averaged over all of
them. A new model's queries less that mean lie where the old model's passages expect them. It is
kept with every whole model, which can so be served before its passages are encoded.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..encoder import Encoder
from ..query_side import Drift, QuerySide

MOST_QUERIES = 512
"""Queries that the mean is taken over: its error falls with their root, its cost with them."""


def measure_drift(old: Encoder, new: Encoder, queries: Iterable[str]) -> Drift:
    """Return the mean drift of queries from one model to a model trained from it.

    Args:
        old: Where training began.
        new: What it led to; cuts texts into the same tokens.
        queries: What was trained on.
    """
    chosen = list(dict.fromkeys(queries))[:MOST_QUERIES]
    dense, tokens = [], []
    for query in chosen:
        before, after = old.query(query), new.query(query)
        dense.append(after.dense - before.dense)
        tokens.append(after.tokens - before.tokens)
    return Drift(np.mean(dense, axis=0), np.concatenate(tokens).mean(axis=0))


def save_drift(old: Encoder, new: Encoder, queries: Iterable[str], folder: Path) -> None:
    """Measure the drift and make the whole model in a version's folder a query side as well.

    Args:
        old: Where training began; if it is a version itself, drifts add up along their chain.
        new: The version's model.
        queries: What was trained on.
        folder: The version's.
    """
    measure_drift(old, new, queries).save(folder)
    parent = int(Path(old.name).name) if old.name.startswith("models/") else 0
    QuerySide(kind="drift", passages=old.fingerprint, model=new.fingerprint, parent=parent).save(
        folder
    )
