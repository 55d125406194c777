"""The best documents of a ranking of passages, each by its best passage.

Here come together what changes hybrid rankings after their candidates are scored: boosts, which
read the passages, and the choice of different ones; and what one search asks of them.
"""

from typing import NamedTuple, get_args

import numpy as np

from ..core.errors import ConfigError
from ..core.settings import Diversify, Settings
from .boosts import boost
from .corpus import Corpus
from .diversify import diversified
from .expansion import MOST_NEIGHBOURS
from .ranked import Ranked
from .snapshot import By, Snapshot, Within

MOST_COMPARED = 1_000
"""Best documents that are chosen among; all are compared with all."""


class HybridOptions(NamedTuple):
    """What one hybrid search asks for; None stands for what the settings say."""

    diversify: Diversify | None = None
    diversify_lambda: float | None = None
    expand: int | None = None

    def check(self, by: str) -> None:
        """Refuse options for what they do not change.

        Raises:
            ConfigError: Another retriever than hybrid ranks, or there is no such value.
        """
        if self.diversify not in (None, *get_args(Diversify)):
            known = ", ".join(map(repr, get_args(Diversify)))
            raise ConfigError(f"cannot diversify by {self.diversify!r}", fix=f"use one of {known}")
        if self.expand is not None and not 0 <= self.expand <= MOST_NEIGHBOURS:
            raise ConfigError(f"expand is {self.expand}", fix=f"use 0 to {MOST_NEIGHBOURS}")
        if self.diversify_lambda is not None and not 0 <= self.diversify_lambda <= 1:
            raise ConfigError(f"lambda is {self.diversify_lambda}", fix="use a number from 0 to 1")
        given = [name for name, value in self._asdict().items() if value is not None]
        if given and by != "hybrid":
            raise ConfigError(f"{given[0]!r} is for hybrid search, not {by!r}", fix="leave it out")

    def over(self, settings: Settings) -> Settings:
        """Return the settings with the options that are given in their place."""
        given = {name: value for name, value in self._asdict().items() if value is not None}
        return settings.model_copy(update=given)


def best_documents(
    snapshot: Snapshot,
    corpus: Corpus,
    by: By,
    query: str,
    k: int,
    within: Within = None,
    options: HybridOptions = HybridOptions(),  # noqa: B008  (immutable)
) -> Ranked:
    """Rank passages, looking deeper until there are k documents, and keep each one's best.

    Args:
        snapshot: What is searched.
        corpus: Where its passages are read.
        by: The retriever; only hybrid search has boosts and options.
        query: What to look for.
        k: Documents wanted.
        within: Row ids of the passages that a filter admits.
        options: Of hybrid search.
    """
    asked = options.over(snapshot.settings)
    chooses = by == "hybrid" and asked.diversify != "none"
    depth = k if snapshot.manifest["chunk_tokens"] == 0 else 2 * k
    boosts = asked.boosts if by == "hybrid" else {}
    if chooses or any(boosts.values()):
        depth = max(depth, asked.candidates)  # whatever k is, the order comes from as many
    while True:
        ranked = snapshot.rank(by, query, depth, within, asked.expand)
        if any(boosts.values()):
            ranked = boost(ranked, query, boosts, corpus.passages(ranked.ids.tolist()))
        _, first = np.unique(snapshot.documents(ranked.ids), return_index=True)
        if len(first) >= k or len(ranked.ids) < depth:
            keep = np.sort(first)
            best = Ranked(ranked.ids[keep], ranked.scores[keep])
            if not chooses:
                return best.top(k)
            return _chosen(best.top(max(k, MOST_COMPARED)), snapshot, asked, k)
        depth *= 4


def _chosen(ranked: Ranked, snapshot: Snapshot, asked: Settings, k: int) -> Ranked:
    vectors = snapshot.dense_vectors(ranked.ids)
    return diversified(ranked, vectors, asked.diversify, asked.diversify_lambda, k)
