"""Learning while real logs go on: what each round changes for the past and for what is to come.

People's search sessions of the TREC 2013 session track and the runs of LLM agents over Wikipedia
are cut by time into periods. After each the query side is trained on all runs so far, as the
flywheel does, and serves if the gate lets it; held-out queries of every period are measured after
every round. Nothing that is learned from in any period is asked in the tests of any.

``python benchmarks/continual.py [PERIODS]``
"""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common import DATA, WORK, workspace, write_table
from retrail.evals import load_dataset
from retrail.evals.continual import METRIC, ContinualTable, evaluate_periods, split_periods
from retrail.memory.formats import import_files
from retrail.retrievers.training import Hyperparameters
from swap import built

from retrail import Workspace

SESSIONS = DATA / "trajectories" / "trec_session_2013"
AGENTS = DATA / "trajectories" / "wiki_agent"
HYPER = Hyperparameters(mode="query", target="both", epochs=3)


def main() -> None:
    """Live through both logs and write the table."""
    periods = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    rows: list[tuple[object, ...]] = []
    for name, source, log in (
        ("people's sessions", _indexed_sessions(), SESSIONS / "trajectories.jsonl.gz"),
        ("LLM agents' runs", built(), AGENTS / "runs.jsonl.gz"),
    ):
        for gate, accept_equal in (("must gain", False), ("must not lose", True)):
            with _copy(source) as opened:
                import_files(opened.trajectories, [log])
                lived = split_periods(opened.trajectories.iterate(), periods)
                learning = {"hyper": HYPER, "accept_equal": accept_equal}
                rows += _rows(name, gate, evaluate_periods(opened, lived, learning=learning))
    write_table(
        "continual",
        f"Learning from real logs period by period, dense {METRIC}",
        ("log", "gate", "measured", *(f"period {n}" for n in range(1, periods + 1)), "outcome"),
        rows,
        "Query side only, both scores trained. A row is what serves after a round; right of the "
        "diagonal is what learning from the past does for what is to come. The usual gate lets a "
        "candidate serve only after a significant gain; the other one unless it loses, which is "
        "--accept-equal.",
    )


def _rows(name: str, gate: str, table: ContinualTable) -> Iterator[tuple[object, ...]]:
    yield (name, gate, "queries", *table.queries, "")
    for round_, (scores, outcome) in enumerate(
        zip(table.scores, ["", *table.outcomes], strict=True)
    ):
        yield (name, gate, f"after {round_} rounds", *scores, outcome)
    yield (name, gate, "gained", *(f"{gain:+.3f}" for gain in table.gains), "")
    yield (name, gate, "forgotten", *(f"{lost:.3f}" for lost in table.forgetting), "")


def _indexed_sessions() -> Path:
    with workspace("trec_session_2013", load_dataset(SESSIONS, "click")) as opened:
        return opened.root


@contextmanager
def _copy(source: Path) -> Iterator[Workspace]:
    target = WORK / "continual"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("trajectories.db*", "models"))
    with Workspace.open(target) as opened:
        yield opened
    shutil.rmtree(target)


if __name__ == "__main__":
    main()
