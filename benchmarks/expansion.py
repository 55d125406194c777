"""Neighbours among the candidates, and diverse hits: do multi-hop questions find more passages?

Whole questions are asked of hybrid search with neighbours of the best candidates joining, from many
and from few first-stage candidates, and with both ways to choose hits that do not repeat each
other.

``python benchmarks/expansion.py``
"""

from collections.abc import Iterator
from contextlib import contextmanager
from statistics import fmean
from typing import Any

from common import DATA, dataset, workspace, write_table
from retrail.core.metrics import per_query
from retrail.core.significance import paired_bootstrap
from retrail.retrievers.beir import read_qrels, read_queries
from retrail.retrievers.snapshot import Snapshot
from wiki_agent import with_runs

from retrail import Workspace

WIKI = DATA / "trajectories" / "wiki_agent"
METRICS = ("R@5", "R@10", "nDCG@10")
FEW = 20
"""Fewer are not to be had: ten documents are looked for among twenty passages."""
CONDITIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "expand 5": {"expand": 5},
    "expand 20": {"expand": 20},
    f"{FEW} candidates": {"candidates": FEW},
    f"{FEW} candidates, expand 5": {"candidates": FEW, "expand": 5},
    f"{FEW} candidates, expand 20": {"candidates": FEW, "expand": 20},
    **{
        f"{method}, lambda {share}": {"diversify": method, "diversify_lambda": share}
        for method in ("mmr", "coverage")
        for share in (0.5, 0.7, 0.9, 0.98)
    },
}

Pairs = list[tuple[str, dict[str, int]]]


def main() -> None:
    """Measure both collections and write the table."""
    rows: list[tuple[object, ...]] = []
    data = dataset("musique_kag100")
    with workspace("musique_kag100", data) as opened:
        pairs = [(data.queries[q].text, dict(relevant)) for q, relevant in data.qrels.items()]
        rows += _rows("MuSiQue", opened, pairs)
    with with_runs() as opened:
        rows += _rows("Wikipedia questions", opened, _questions())
    header = (
        "questions",
        "hybrid search",
        *METRICS,
        "all found in 10",
        "R@10 − its plain, 95 %",
    )
    write_table(
        "expansion",
        "Neighbours among the candidates, and diverse hits, on multi-hop questions",
        header,
        rows,
        NOTES,
    )


def _questions() -> Pairs:
    found: Pairs = []
    for prefix in ("", "unseen_"):
        queries = read_queries(WIKI / f"{prefix}queries.jsonl")
        qrels = read_qrels(WIKI / f"{prefix}qrels.tsv")
        found += [(queries[q].text, dict(relevant)) for q, relevant in qrels.items()]
    return found


def _rows(name: str, opened: Workspace, pairs: Pairs) -> Iterator[tuple[object, ...]]:
    found: dict[str, dict[str, list[float]]] = {}
    for condition, changed in CONDITIONS.items():
        with _searching(opened, changed) as snapshot:
            hits = [opened.index.search_in(snapshot, query, "hybrid", 10) for query, _ in pairs]
        run = {str(n): {hit.doc_id: hit.score for hit in some} for n, some in enumerate(hits)}
        scores = per_query({str(n): gold for n, (_, gold) in enumerate(pairs)}, run, [*METRICS])
        found[condition] = {m: [scores[m][str(n)] for n in range(len(pairs))] for m in METRICS}
        base = f"{FEW} candidates" if condition.startswith(str(FEW)) else "plain"
        gain = paired_bootstrap(found[base]["R@10"], found[condition]["R@10"])
        yield (
            f"{name} ({len(pairs)})",
            condition,
            *(fmean(found[condition][metric]) for metric in METRICS),
            fmean(value == 1 for value in found[condition]["R@10"]),
            f"{gain.difference:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]",
        )


@contextmanager
def _searching(opened: Workspace, changed: dict[str, Any]) -> Iterator[Snapshot]:
    """Open what is served once more, with other settings."""
    served = opened.index.snapshot()
    settings = served.settings.model_copy(update=changed)
    snapshot = Snapshot(served.folder, opened.index.root / "vectors", settings, served.encode)
    yield snapshot
    snapshot.close()


NOTES = """\
Nothing here helps significantly, so all of it is off by default. What neighbours add to a hundred
candidates of each first stage scores too low to be seen; added to twenty of each they make up for
a part of the missing eighty, if anything. Multi-hop passages that a question does not resemble
need another query, not another candidate. Diverse hits find no more gold passages: MMR at 0.5 loses
many, facility location gives up order (nDCG) for nothing that is significant. They are for readers
who do not want the same thing said ten times. Each gold passage is an aspect of its own, so that
alpha-nDCG would be nDCG; *all found in 10* is the share of questions whose every gold passage is
among ten. Those of *20 candidates* are compared with the same without neighbours, all others with
*plain*."""

if __name__ == "__main__":
    main()
