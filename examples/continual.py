"""Learning while the questions drift: three batches about different things, a round after each.

SIMULATED readers ask about files, then about text and numbers, then about running things, in the
documentation of the Python standard library. The flywheel learns after each batch; a fixed set of
other questions on all three tells what it gained and what it forgot. Offline, in a few minutes:

    python examples/continual.py [FOLDER [QUESTIONS_A_BATCH]]

The cells between ``# %%`` run one by one in editors that know them.
"""

# %% Settings
import json
import random
import shutil
import sys
from pathlib import Path

from matplotlib.figure import Figure
from retrail.evals.continual import ContinualTable, measure_periods
from retrail.evals.simulated import SimulatedReader
from retrail.retrievers.readers import ReadReport, read_python_env
from retrail.retrievers.training import Hyperparameters
from retrail.retrievers.training.examples import HeldOut
from rich.console import Console
from rich.table import Table

from retrail import Workspace

DOMAINS = {
    "files": "os pathlib shutil tempfile zipfile json csv configparser",
    "text and numbers": "re collections itertools math statistics datetime random string",
    "running": "threading concurrent.futures queue subprocess logging contextlib functools sqlite3",
}
FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else ".continual")
BATCH = int(sys.argv[2]) if len(sys.argv) > 2 else 60
TESTS = BATCH // 2
HYPER = Hyperparameters(mode="query", negatives=2, max_tokens=64, epochs=2)
"""Only queries are trained: a round takes seconds and indexes nothing again."""

console = Console(highlight=False)


# %% The questions of every domain, written by hand for the demo
def questions(domain: str, known: set[str]) -> list[dict]:
    """Return a domain's questions whose answer is indexed, in a fixed order."""
    modules = tuple(f"{module}." for module in DOMAINS[domain].split())
    with (Path(__file__).parent / "demo" / "questions.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    rows = [row for row in rows if row["target"].startswith(modules) and row["target"] in known]
    random.Random(7).shuffle(rows)
    return rows[: TESTS + BATCH]


def targets(row: dict) -> dict[str, int]:
    """Return the documents that answer a question."""
    return dict.fromkeys([row["target"], *row.get("accept", [])], 1)


# %% Index the documentation
shutil.rmtree(FOLDER, ignore_errors=True)
workspace = Workspace.create(FOLDER, chunk_tokens=160)
modules = " ".join(DOMAINS.values()).split()
documents = read_python_env(ReadReport(), packages=["python"], modules=modules)
workspace.index.add(documents)
known = {row[0] for row in workspace.index.corpus.metadata_of(None, workspace.index.generation)}
batches = {domain: questions(domain, known) for domain in DOMAINS}
tests = [[HeldOut(row["text"], targets(row)) for row in rows[:TESTS]] for rows in batches.values()]
console.print(f"{len(known)} documents; {TESTS} test questions a domain, {BATCH} to learn from")

# %% Live through one domain after the other; the flywheel learns after each
wheel = workspace.flywheel(every=10, learning={"hyper": HYPER}, min_free_gb=1, min_memory_gb=1)
scores, outcomes = [measure_periods(workspace, tests)], []
for domain, rows in batches.items():
    lived = rows[TESTS:]
    reader = SimulatedReader({row["text"]: targets(row) for row in lived})
    for row in lived:
        workspace.ask(row["text"], planner=reader, recall=False)
    ended = wheel.step()
    outcomes.append(f"{ended.outcome}: {ended.reason}" if ended else "not due")
    console.print(f"after {domain!r}: {outcomes[-1]}", markup=False)
    scores.append(measure_periods(workspace, tests))

# %% The table: what is served after each round, on each domain's test questions
result = ContinualTable(
    periods=list(DOMAINS), queries=[TESTS] * 3, scores=scores, outcomes=outcomes
)
table = Table(f"dense {result.metric}", *result.periods)
for name, row in zip(["before", *(f"after {d}" for d in DOMAINS)], result.scores, strict=True):
    table.add_row(name, *(f"{score:.3f}" for score in row))
table.add_row("gain", *(f"{gain:+.3f}" for gain in result.gains))
table.add_row("forgotten", *(f"{lost:.3f}" for lost in result.forgetting))
console.print(table)
(FOLDER / "continual.json").write_text(result.model_dump_json(indent=1), encoding="utf-8")

# %% The plot
figure = Figure(figsize=(6, 3.4), layout="constrained")
axes = figure.subplots()
for domain, column, marker in zip(result.periods, zip(*scores, strict=True), "os^", strict=True):
    axes.plot(range(len(column)), column, marker=marker, label=domain)
axes.set_xticks(range(len(scores)), ["before", *(f"after\n{domain}" for domain in DOMAINS)])
axes.set_ylabel(f"dense {result.metric}")
axes.legend(title="test questions on")
figure.savefig(FOLDER / "continual.svg")
console.print(f"plot: {str(FOLDER / 'continual.svg')!r}")
workspace.close()
