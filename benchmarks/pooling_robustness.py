"""Poolings of the late score against stuffed and against long passages, on SciFact.

Stuffed: ten candidates of every query that are not relevant hold many copies of one of its token
vectors, as a page does that repeats a word. Long: every candidate that is not relevant goes on with
the tokens of other passages. Pooling is changed in searching only; nothing is trained with it.
"""

from collections.abc import Callable

import numpy as np
from common import dataset, workspace, write_table
from late_ladder import Stored, read
from numpy.typing import NDArray
from retrail.core.metrics import mean, per_query
from retrail.retrievers.similarity_pooling import Pooling, pool

QUERIES = 150
STUFFED = 10
POOLINGS = {
    "max": Pooling(),
    "topk, 4": Pooling("topk"),
    "softmax, 0.03": Pooling("softmax", temperature=0.03),
    "softmax, 0.1": Pooling("softmax", temperature=0.1),
    "softmax, 1": Pooling("softmax", temperature=1.0),
}
Spoil = Callable[[np.random.Generator, Stored, NDArray[np.float32], int], NDArray[np.float32]]


def main() -> None:
    """Measure every pooling on the passages as they are and as each attack leaves them."""
    data = dataset("scifact")
    with workspace("scifact-192", data, chunk_tokens=0, late_dim=192) as opened:
        stored = read(opened.index, data)
    asked = dict(list(stored.queries.items())[:QUERIES])
    stored = stored._replace(queries=asked, judged={query: stored.judged[query] for query in asked})
    attacks: dict[str, tuple[Spoil | None, int | None]] = {
        "clean": (None, 0),
        "4 copies": (stuffed(4), STUFFED),
        "32 copies": (stuffed(32), STUFFED),
        "twice as long": (longer(1), None),
        "4 times as long": (longer(3), None),
    }
    columns = [measured(stored, *attack) for attack in attacks.values()]
    rows = [(name, *(column[name] for column in columns)) for name in POOLINGS]
    title = f"Poolings of the late score under attack: nDCG@10, SciFact, {QUERIES} queries"
    write_table("pooling_robustness", title, ("pooling", *attacks), rows, NOTES)


NOTES = (
    f"Copies: of one token vector of the query, in {STUFFED} candidates that are not relevant. "
    "Longer: all candidates that are not relevant go on with other passages; a score above "
    "the clean one says that the pooling counts length against a passage. fp16, 192 dimensions."
)


def stuffed(copies: int) -> Spoil:
    """Put copies of one token of the query into a passage."""
    return lambda rng, _, query, row: query[[rng.integers(1, len(query) - 1)] * copies]


def longer(others: int) -> Spoil:
    """Let a passage go on with others."""
    return lambda rng, stored, _, row: np.concatenate(
        [stored.passages[n] for n in rng.choice(stored.sample, others)]
    )


def measured(stored: Stored, spoil: Spoil | None, count: int | None) -> dict[str, float]:
    """Return nDCG@10 by pooling, with ``count`` irrelevant candidates spoilt, or all."""
    rng = np.random.default_rng(0)
    runs: dict[str, dict[str, dict[str, float]]] = {name: {} for name in POOLINGS}
    for query, (vectors, candidates) in stored.queries.items():
        relevant = stored.judged[query]
        wrong = [int(row) for row in candidates if not relevant.get(stored.names[int(row)])]
        spoilt = set(wrong if count is None else rng.choice(wrong, count, replace=False).tolist())
        for run in runs.values():
            run[query] = {}
        for row in map(int, candidates):
            tokens = stored.passages[row]
            if spoil and row in spoilt:
                tokens = np.concatenate([tokens, spoil(rng, stored, vectors, row)])
            similarities = tokens @ vectors.T
            for name, pooling in POOLINGS.items():
                runs[name][query][stored.names[row]] = float(pool(similarities, pooling).sum())
    return {
        name: mean(per_query(stored.judged, run, ["nDCG@10"])["nDCG@10"])
        for name, run in runs.items()
    }


if __name__ == "__main__":
    main()
