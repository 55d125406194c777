"""How agents and people choose from what they are shown, and how well judges read their thoughts.

The analysis is that of ``retrail trajectories stats``, over every log of the data folder: ranks
that are opened, searches that lead to an opening by outcome, thoughts by judgement. Where gold
passages are known, the judges' labels are held to them, in two halves of the questions by hash:
the rule of the judge ``negation`` was written on the first and never looked at the second.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from common import DATA, markdown_table, write_table
from retrail.core.trajectories import Level, Trajectory
from retrail.evals.answers import token_f1
from retrail.memory import TrajectoryStore
from retrail.memory.formats import import_files
from retrail.retrievers.beir import Query, read_qrels, read_queries
from retrail.retrievers.training import MiningOptions, diagnose, mine_all
from retrail.retrievers.training.diagnostics import Behaviour, Diagnostics
from retrail.retrievers.training.judge_names import choose_judge

LOGS = {
    "wiki_agent": "runs.jsonl.gz",
    "lrat_bm25": "runs",
    "webshop_react": "trajectories.jsonl.gz",
    "hotpot_agent_runs": "trajectories.jsonl.gz",
    "trec_session_2013": "trajectories.jsonl.gz",
}
JUDGES = ("negation", "none")
"""The logs cite nothing, so the judge ``cited`` gives no label here."""

_BEHAVIOUR: dict[str, Callable[[Behaviour], float | None]] = {
    "runs": lambda b: b.runs,
    "searches with a list": lambda b: b.searches,
    "openings": lambda b: b.openings,
    "P(search → opening)": lambda b: b.searched_and_opened,
    "runs without an opening": lambda b: b.runs_without_opening,
    "steps to the first opening, median": lambda b: b.steps_to_first_opening,
    "mean rank opened": lambda b: b.mean_rank,
    "mean rank shown": lambda b: b.mean_rank_shown,
    "openings rejected": lambda b: b.rejected,
}


def main() -> None:
    """Analyse every log and write the tables."""
    runs = {name: _runs(DATA / "trajectories" / name / file) for name, file in LOGS.items()}
    found = {name: diagnose(of_log) for name, of_log in runs.items()}
    parts = [
        ("Ranks: P(opened | shown at the rank)", _ranks(found)),
        ("By outcome", _outcomes(runs)),
        ("Words of the thought after an opening, median (openings)", _thoughts(found)),
        ("What is mined", _mined(runs)),
        ("Labels of opened passages of wiki_agent against the gold passages", _agreement(runs)),
    ]
    write_table(
        "diagnostics",
        "How agents and people choose: `retrail trajectories import LOG`, `… stats`, five logs",
        ("", *LOGS),
        [
            [name, *(_cell(value(each.all)) for each in found.values())]
            for name, value in _BEHAVIOUR.items()
        ],
        "\n\n".join(f"## {title}\n\n{table}" for title, table in parts) + f"\n\n{NOTES}",
    )


def _runs(path: Path) -> list[Trajectory]:
    if not path.exists():
        raise SystemExit(f"there is no {path}; set RETRAIL_SHARED_DATA to the data folder")
    with (
        TemporaryDirectory() as folder,
        TrajectoryStore(Path(folder) / "trajectories.db") as store,
    ):
        import_files(store, [path])
        return list(store.iterate())


def _cell(value: float | None) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _ranks(found: dict[str, Diagnostics]) -> str:
    shares = {name: {at.rank: at for at in d.all.ranks} for name, d in found.items()}
    rows = [
        [rank, *(_cell(s[rank].opened_share) if rank in s else "–" for s in shares.values())]
        for rank in range(1, 11)
    ]
    return markdown_table(("rank", *found), rows)


def _outcomes(runs: dict[str, list[Trajectory]]) -> str:
    """Group runs by what is known of their answers beside the logs, which the runs did not know."""
    gold = read_queries(DATA / "trajectories" / "wiki_agent" / "queries.jsonl")
    rights: dict[str, tuple[str, Callable[[Trajectory], bool | None]]] = {
        "wiki_agent": ("answer F1 ≥ 0.5", lambda run: _is_right(run, gold)),
        "webshop_react": ("full reward", lambda run: _head(run).get("reward") == 1),
    }
    rows: list[Sequence[object]] = []
    for name, (what, is_right) in rights.items():
        for outcome in (True, False):
            group = diagnose(run for run in runs[name] if is_right(run) is outcome).all
            shown = (group.searched_and_opened, group.mean_rank, group.steps, group.rejected)
            words = _words(group, "useful")
            rows.append((name, what if outcome else "less", group.runs, *map(_cell, shown), words))
    header = ("log", "outcome", "runs", "P(search → opening)", "mean rank opened", "steps a run")
    return markdown_table((*header, "openings rejected", "words after useful (openings)"), rows)


def _is_right(run: Trajectory, gold: dict[str, Query]) -> bool | None:
    """Return None where nobody has said what the answer is."""
    answer = gold[str(run.query_id)].metadata["answer"]
    told = run.answer.text if run.answer else ""
    return None if answer is None else token_f1(told, [str(answer)]) >= 0.5


def _head(run: Trajectory) -> dict[str, Any]:
    return ((run.model_extra or {}).get("original") or {}).get("head") or {}


def _thoughts(found: dict[str, Diagnostics]) -> str:
    kinds = ("useful", "rejected", "silent")
    rows = [
        [name, *(_words(each.all, kind) for kind in kinds)]
        for name, each in found.items()
        if each.all.openings
    ]
    return markdown_table(("log", *kinds), rows)


def _words(group: Behaviour, kind: str) -> str:
    found = group.thoughts.get(kind)
    return f"{found.median_words:.0f} ({found.openings})" if found else "–"


def _mined(runs: dict[str, list[Trajectory]]) -> str:
    rows = []
    for name, of_log in runs.items():
        report = mine_all(of_log, options=MiningOptions()).report
        counts = [report.levels[each] for each in ("useful", "rejected", "unopened")]
        left_out = "; ".join(f"{count} {what}" for what, count in report.dropped.items())
        rows.append((name, report.trajectories, report.used, *counts, left_out or "–"))
    header = ("log", "runs", "used", "useful", "rejected", "passed over", "left out")
    return markdown_table(header, rows)


def _agreement(runs: dict[str, list[Trajectory]]) -> str:
    """Hold the labels of opened passages to the gold passages of their run's question."""
    gold = read_qrels(DATA / "trajectories" / "wiki_agent" / "qrels.tsv")
    halves: dict[str, list[Trajectory]] = defaultdict(list)
    for run in runs["wiki_agent"]:
        first = blake2b(str(run.query_id).encode(), digest_size=8).digest()[0] % 2 == 0
        halves["first" if first else "second"].append(run)
    rows = [
        (half, judge, *_held_to(halves[half], judge, gold))
        for half in ("first", "second")
        for judge in JUDGES
    ]
    header = ("half", "judge", "useful", "of these gold", "gold found useful", "rejected")
    return markdown_table((*header, "of these not gold", "not gold rejected"), rows)


def _held_to(
    runs: Iterable[Trajectory], judge: str, gold: dict[str, dict[str, int]]
) -> tuple[str, ...]:
    counts: Counter[tuple[bool, bool]] = Counter()
    for run in runs:
        right = gold[str(run.query_id)]
        for _, signals in mine_all([run], choose_judge(judge, None, lambda _: {})).runs:
            useful = {s.doc_id for s in signals if s.level >= Level.USEFUL}
            rejected = {s.doc_id for s in signals if s.level == Level.REJECTED} - useful
            counts.update((True, doc_id in right) for doc_id in useful)
            counts.update((False, doc_id in right) for doc_id in rejected)
    useful, rejected = (counts[label, True] + counts[label, False] for label in (True, False))
    is_gold, is_not = (counts[True, g] + counts[False, g] for g in (True, False))
    return (
        str(useful),
        _of(counts[True, True], useful),
        _of(counts[True, True], is_gold),
        str(rejected),
        _of(counts[False, False], rejected),
        _of(counts[False, False], is_not),
    )


def _of(part: int, whole: int) -> str:
    return f"{part / whole:.3f}" if whole else "–"


NOTES = """\
P(search → opening): share of the lists from which something was opened. Agents open ranks 1 and 2
almost alone, people spread over the list: what an agent left at rank 8 was hardly looked at, which
`examined` weighs. Agents that end with a right answer open more often, and higher up.
hotpot_agent_runs holds no documents, so nothing can be mined. The logs cite nothing, so the judge
`cited` gives no label; a label is that of the best signal of an opened passage in its run."""

if __name__ == "__main__":
    main()
