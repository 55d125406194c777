"""Learning from LLM agents' runs over Wikipedia: what each step of mining adds.

The runs of three quarters of the questions are learned from. On the other quarter two things are
measured over the whole corpus: the agents' own sub-queries, each against every passage the agent
opened from its list, and whole questions, also unseen ones, against their gold passages. *Naive*
takes every opening for useful, *filter* believes the thought after it, *weight* counts by that
thought's length, *ours* adds the whole question as a query, trains both scores and saves the
average of the old weights and the new. A seed draws the split as well as the batches. Each result
is kept in ``.bench``: the same command goes on.

``python benchmarks/wiki_agent.py [SEEDS] [CONDITION…]``
"""

import json
import random
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from common import DATA, WORK, write_table
from retrail.core.metrics import per_query
from retrail.core.significance import paired_bootstrap
from retrail.core.trajectories import Trajectory
from retrail.memory.formats import import_files
from retrail.retrievers.beir import read_qrels, read_queries
from retrail.retrievers.snapshot import By, Snapshot
from retrail.retrievers.training import Hyperparameters, build_examples, mine_all, train
from retrail.retrievers.training.augment import augmented
from retrail.retrievers.training.examples import Example, normalise
from retrail.retrievers.training.judge_names import choose_judge
from retrail.retrievers.training.openings import openings_of
from retrail.retrievers.training.options import MiningOptions
from swap import built

from retrail import Workspace

SOURCE = DATA / "trajectories" / "wiki_agent"
KEPT = WORK / "wiki-agent-learned"
RETRIEVERS: tuple[By, ...] = ("dense", "late", "hybrid")
SHARE = 4
"""One part in so many is held out."""

REFERENCE = Hyperparameters(learning_rate=2e-5)
OURS = Hyperparameters(learning_rate=3e-5, target="both", average=0.5)
CONDITIONS: dict[str, tuple[MiningOptions, Hyperparameters] | None] = {
    "base": None,
    "naive": (MiningOptions(judge="none"), REFERENCE),
    "filter": (MiningOptions(), REFERENCE),
    "weight": (MiningOptions(intensity="thought"), REFERENCE),
    "ours": (MiningOptions(questions="useful"), OURS),
}

Pairs = list[tuple[str, dict[str, int]]]
"""Queries with what is relevant to them."""


class Task(NamedTuple):
    """One thing that is measured."""

    name: str
    metrics: tuple[str, ...]


TASKS = (
    Task("sub-queries", ("RR@10", "R@1", "R@5")),
    Task("questions", ("R@5", "R@10")),
)


def main() -> None:
    """Measure what has not been, then write the table of all there is."""
    if not SOURCE.exists():
        raise SystemExit(f"there is no {SOURCE}; set RETRAIL_SHARED_DATA to the data folder")
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    wanted = sys.argv[2:] or list(CONDITIONS)
    KEPT.mkdir(parents=True, exist_ok=True)
    with with_runs() as opened:
        runs = list(opened.trajectories.iterate())
        for seed in range(seeds):
            for name in ("base", *(name for name in wanted if name != "base")):
                path = KEPT / f"{name}-{seed}.json"
                if not path.exists():
                    result = _measured(opened, runs, name, seed)
                    path.write_text(json.dumps(result), encoding="utf-8")
    _write(seeds)


def with_runs() -> Workspace:
    """Open the workspace that has the agents' runs, making it first if need be."""
    root = WORK / "wiki-agent-learning"
    if not root.exists():
        shutil.copytree(built(), root, ignore=shutil.ignore_patterns("trajectories.db*"))
    opened = Workspace.open(root)
    import_files(opened.trajectories, [SOURCE / "runs.jsonl.gz"])
    return opened


def _measured(
    opened: Workspace, runs: Sequence[Trajectory], name: str, seed: int
) -> dict[str, Any]:
    """Train if there is something to train, index aside, and measure every query."""
    index, condition = opened.index, CONDITIONS[name]
    held = _held_out(runs, seed)
    tasks = {"sub-queries": _openings(runs, held), "questions": _questions(held)}
    keys = {name: [f"{q} {[*relevant]}" for q, relevant in pairs] for name, pairs in tasks.items()}
    told = {"keys": keys, "examples": 0, "seconds": 0}
    began = time.process_time()
    if condition is None:
        return told | {"figures": _figures(opened, index.snapshot(), tasks)}
    mining, hyper = condition
    hyper = hyper.model_copy(update={"seed": seed})
    examples = _examples(opened, [r for r in runs if r.question not in held], mining, hyper)
    target = index.root / "models" / "dense" / "9999"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    corpus = index.sample(2_000, seed)
    train(index.encoder(), examples, index.texts, corpus, target, hyper)
    seconds = time.process_time() - began
    with index.candidate(index.load("models/dense/9999")) as candidate:
        figures = _figures(opened, candidate.snapshot, tasks)
    return told | {"figures": figures, "examples": len(examples), "seconds": seconds}


def _held_out(runs: Sequence[Trajectory], seed: int) -> set[str]:
    questions = sorted({run.question for run in runs})
    random.Random(seed).shuffle(questions)
    return set(questions[::SHARE])


def _examples(
    opened: Workspace, runs: Sequence[Trajectory], mining: MiningOptions, hyper: Hyperparameters
) -> list[Example]:
    judge = choose_judge(mining.judge, None, opened.index.texts)
    mined = mine_all(runs, judge, mining)
    more = augmented(mined.runs, mined.thoughts, mining)
    return build_examples([*mined.runs, *more], hyper.negatives)


def _openings(runs: Sequence[Trajectory], held: set[str]) -> Pairs:
    """Return each opening of the held-out runs that asked what was not asked in the others."""
    asked = {normalise(q) for run in runs if run.question not in held for q in _asked(run)}
    return [
        (opening.query, {opening.doc_id: 1})
        for run in runs
        if run.question in held
        for opening in openings_of(run)
        if normalise(opening.query) not in asked
    ]


def _asked(run: Trajectory) -> list[str]:
    return [str(step.args.get("query", "")) for step in run.steps if step.action == "search"]


def _questions(held: set[str]) -> Pairs:
    """Return the held-out questions, and those no agent was asked, with their gold passages."""
    found: Pairs = []
    for prefix in ("", "unseen_"):
        queries = read_queries(SOURCE / f"{prefix}queries.jsonl")
        qrels = read_qrels(SOURCE / f"{prefix}qrels.tsv")
        found += [
            (queries[name].text, dict(relevant))
            for name, relevant in qrels.items()
            if name in queries and (prefix or queries[name].text in held)
        ]
    return found


def _figures(
    opened: Workspace, snapshot: Snapshot, tasks: Mapping[str, Pairs]
) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Return retriever → task → metric → a figure a query."""
    return {
        by: {
            task.name: _per_query(opened, snapshot, tasks[task.name], by, task.metrics)
            for task in TASKS
        }
        for by in RETRIEVERS
    }


def _per_query(
    opened: Workspace, snapshot: Snapshot, pairs: Pairs, by: By, metrics: Sequence[str]
) -> dict[str, list[float]]:
    hits: dict[str, dict[str, float]] = {}
    for query, _ in pairs:
        if query not in hits:
            found = opened.index.search_in(snapshot, query, by, 10)
            hits[query] = {hit.doc_id: hit.score for hit in found}
    qrels = {str(n): relevant for n, (_, relevant) in enumerate(pairs)}
    run = {str(n): hits[query] for n, (query, _) in enumerate(pairs)}
    scores = per_query(qrels, run, list(metrics))
    return {metric: [scores[metric][n] for n in qrels] for metric in metrics}


def _write(seeds: int) -> None:
    done = {
        name: {seed: json.loads(path.read_text(encoding="utf-8")) for seed in range(seeds)
               if (path := KEPT / f"{name}-{seed}.json").exists()}
        for name in CONDITIONS
    }  # fmt: skip
    rows = [
        (task.name, metric, by, *_cells(by, task.name, metric, done))
        for task in TASKS
        for metric in task.metrics
        for by in RETRIEVERS
    ]
    examples = {name: [each["examples"] for each in found.values()] for name, found in done.items()}
    seconds = {name: [each["seconds"] for each in found.values()] for name, found in done.items()}
    told = "; ".join(
        f"{name}: {len(n)} seeds, {sum(n) / len(n):.0f} examples, "
        f"{sum(seconds[name]) / len(n) / 60:.0f} CPU minutes to train"
        for name, n in examples.items()
        if n and name != "base"
    )
    write_table(
        "wiki_agent",
        "Learning from the runs of LLM agents over 12,974 Wikipedia passages",
        ("measured on", "metric", "retriever", *(f"{n}, seeds: {len(d)}" for n, d in done.items())),
        rows,
        f"{told}. A query that several seeds hold out counts once, with its mean; the intervals "
        "come from a paired bootstrap over queries. Gains are over the base of the same seeds; "
        "levels of columns with other seeds are of other queries.",
    )


def _cells(
    by: By, task: str, metric: str, done: Mapping[str, Mapping[int, Any]]
) -> Iterator[object]:
    """Yield a figure for each condition, with what it gains over the base of the same seeds."""
    for name, learned in done.items():
        before: dict[str, list[float]] = defaultdict(list)
        after: dict[str, list[float]] = defaultdict(list)
        for seed, result in learned.items():
            for each, kept in ((done["base"][seed], before), (result, after)):
                values = each["figures"][by][task][metric]
                for key, value in zip(each["keys"][task], values, strict=True):
                    kept[key].append(value)
        if not after:
            yield "–"
            continue
        found = paired_bootstrap(*([fmean(v) for v in kept.values()] for kept in (before, after)))
        gain = f" ({found.difference:+.3f} [{found.low:+.3f}, {found.high:+.3f}])"
        yield f"{found.after:.3f}" + (gain if name != "base" else "")


if __name__ == "__main__":
    main()
