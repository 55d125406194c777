"""What the benchmarks share: the data folder, workspaces kept between runs, Markdown tables."""

import os
import platform
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

from retrail.evals import Dataset, load_dataset
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from retrail import Workspace

ROOT = Path(__file__).resolve().parent
RESULTS = ROOT / "results"
REMARKS = "\n## Remarks\n"
WORK = Path(os.environ.get("RETRAIL_BENCH_DIR", ROOT.parent / ".bench"))
DATA = Path(os.environ.get("RETRAIL_SHARED_DATA", ROOT.parent.parent / "shared" / "data"))


def dataset(name: str) -> Dataset:
    """Load a dataset of the data folder, or stop and say where it is expected."""
    if not (DATA / name).exists():
        raise SystemExit(f"{name} is not in {DATA}; set RETRAIL_SHARED_DATA to its folder")
    return load_dataset(DATA / name)


def workspace(name: str, data: Dataset, **settings: object) -> Workspace:
    """Open the benchmark workspace of a dataset, indexing the corpus on the first run."""
    opened = Workspace.create(WORK / name, **settings)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    ) as bars:
        tasks: dict[str, TaskID] = {}

        def progress(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(f"{name}: {stage}", total=total)
            bars.update(tasks[stage], completed=done, total=total)

        opened.index.add(data.documents(), source="benchmark", progress=progress)
    return opened


def dev_half(data: Dataset) -> list[str]:
    """Return a fixed half of the judged queries, chosen by a seeded shuffle."""
    ids = sorted(query for query in data.qrels if query in data.queries)
    random.Random(0).shuffle(ids)
    return ids[: len(ids) // 2]


def write_table(
    name: str, title: str, header: Sequence[str], rows: Iterable[Sequence[object]], notes: str = ""
) -> None:
    """Print a Markdown table and keep it under ``results/`` with the command that made it.

    A section ``## Remarks`` that a person wrote into the file stays.
    """
    file = RESULTS / f"{name}.md"
    remarks = file.read_text(encoding="utf-8").partition(REMARKS)[2] if file.exists() else ""
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    text = "\n".join(
        [
            f"# {title}",
            "",
            f"`python benchmarks/{name}.py` · {machine}",
            "",
            markdown_table(header, rows),
            *(["", notes] if notes else []),
            "",
        ]
    )
    RESULTS.mkdir(exist_ok=True)
    file.write_text(text + (REMARKS + remarks if remarks else ""), encoding="utf-8")
    print(text)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Lay out a table; floats get three digits."""
    cells = [
        [f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows
    ]
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in cells])
