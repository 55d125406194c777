"""Queries behind their thoughts: what an encoder that was not trained for it makes of them.

Every passage that an LLM agent opened from a list is looked for by the query that listed it, alone
and behind the thought that led to it (AgentIR's form, ``query_thought``). Openings without such a
thought are left out. ``python benchmarks/reasoning.py``
"""

from statistics import fmean, median

from common import DATA, write_table
from retrail.core.metrics import per_query
from retrail.core.significance import paired_bootstrap
from retrail.core.trajectories import Trajectory
from retrail.retrievers.snapshot import By
from retrail.retrievers.thought import ThoughtQuery
from retrail.retrievers.training.augment import thoughts_of
from retrail.retrievers.training.openings import openings_of
from wiki_agent import with_runs

from retrail import Workspace

SOURCE = DATA / "trajectories" / "wiki_agent" / "runs.jsonl.gz"
RETRIEVERS: tuple[By, ...] = ("keyword", "dense", "late", "hybrid")
METRICS = ["RR@10", "R@5"]


def main() -> None:
    """Measure and write the table."""
    if not SOURCE.exists():
        raise SystemExit(f"there is no {SOURCE}; set RETRAIL_SHARED_DATA to the data folder")
    with with_runs() as opened:
        pairs = [pair for run in opened.trajectories.iterate() for pair in _pairs(run)]
        rows = [row for by in RETRIEVERS for row in _rows(opened, by, pairs)]
    words = median(len(query.read.split()) - len(query.split()) for query, _ in pairs)
    write_table(
        "reasoning",
        "Queries of LLM agents behind their thoughts, by the base encoder",
        ("retriever", "metric", "query alone", "behind its thought", "difference, 95 %"),
        rows,
        f"{len(pairs)} openings over 12,974 Wikipedia passages; a thought adds "
        f"{words:.0f} words (median). The encoder was not trained to read thoughts, and reads 256 "
        "tokens. Keyword search sees the bare query either way. Paired bootstrap over openings.",
    )


def _pairs(run: Trajectory) -> list[tuple[ThoughtQuery, str]]:
    thoughts = thoughts_of(run)
    return [
        (ThoughtQuery(opening.query, thoughts[opening.query], 256), opening.doc_id)
        for opening in openings_of(run)
        if opening.query in thoughts
    ]


def _rows(
    opened: Workspace, by: By, pairs: list[tuple[ThoughtQuery, str]]
) -> list[tuple[object, ...]]:
    alone = _figures(opened, by, [(str(query), doc_id) for query, doc_id in pairs])
    behind = _figures(opened, by, list(pairs))
    rows: list[tuple[object, ...]] = []
    for metric in METRICS:
        result = paired_bootstrap(alone[metric], behind[metric])
        gap = f"{result.difference:+.3f} [{result.low:+.3f}, {result.high:+.3f}]"
        rows.append((by, metric, fmean(alone[metric]), fmean(behind[metric]), gap))
    return rows


def _figures(opened: Workspace, by: By, pairs: list[tuple[str, str]]) -> dict[str, list[float]]:
    index, snapshot = opened.index, opened.index.snapshot()
    run = {
        str(n): {hit.doc_id: hit.score for hit in index.search_in(snapshot, query, by, 10)}
        for n, (query, _) in enumerate(pairs)
    }
    qrels = {str(n): {doc_id: 1} for n, (_, doc_id) in enumerate(pairs)}
    scores = per_query(qrels, run, METRICS)
    return {metric: [scores[metric][n] for n in qrels] for metric in METRICS}


if __name__ == "__main__":
    main()
