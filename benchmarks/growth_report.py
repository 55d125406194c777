"""The table and the plot of ``growth.py``, from the files that its steps left."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, markdown_table, write_table

Row = tuple[object, ...]
Line = tuple[list[int], list[float]]

PART = {"keyword": "keyword", "dense": "dense", "late": "tokens", "late by centroids": "tokens"}
"""What of the disk a retriever reads."""

HEADER = (
    "passages", "retriever", "built in s", "MB on disk", "first ms", "p50 ms", "p95 ms",
    "processor p50 ms", "p95 ms", "memory MB", "of it anonymous",
)  # fmt: skip

NOTES = """\
Passages are spliced from two real ones each, and their vectors from those that the encoder gave
the two, with noise: 384 dimensions for dense, int8 in 64 for some 103 tokens a passage. Queries
bring their vectors along, so no time is spent on encoding. *late* has candidates from dense ∪
keyword, *late by centroids* from centroids. Memory is that of a process that has searched 120
times with one retriever; what is not anonymous is page cache, which the system takes back when it
needs it. The dense index, and what needs it, was not run above {limit:,} passages: {why}.
Everything ran on one core of a machine whose two were shared with several other jobs: trust
ratios, and times less than memory and bytes.

Building at {size:,} passages took {total:.0f} s in all and {peak:.0f} MB at the most; {stages}.

With filters, p50 and p95 in ms, the first query in s:

{filters}

One passage added to, and removed from, what is there, in s:

{changes}

![Growth](growth.svg)"""


def report(kept: Path, sizes: Sequence[int], limit: int) -> None:
    """Write the table of the steps that are there, and plot them."""
    found = {path.stem: json.loads(path.read_text("utf-8")) for path in kept.glob("*.json")}
    names = {name.split("-", 3)[2] for name in found if "-search-" in name}
    rows = [
        _row(found, size, name, found[key])
        for size in sizes
        for name in sorted(names)
        if (key := f"{size}-search-{name}-") in found
    ]
    largest = max(size for size in sizes if f"{size}-build" in found)
    build = found[f"{largest}-build"]
    stages = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in build["seconds"].items())
    filters = [
        (
            f"{size:,}",
            name,
            where.strip(),
            *(f"{r[k]:.0f}" for k in ("p50", "p95")),
            r["first"] / 1000,
        )
        for size, name, where, r in _searches(found, sizes)
        if where
    ]
    changes = [
        (f"{size:,}", r["add"], r["remove"], f"{r['peak']:.0f}")
        for size in sizes
        if (r := found.get(f"{size}-change"))
    ]
    notes = NOTES.format(
        limit=limit,
        why=_why(found, sizes),
        size=largest,
        total=build["total"],
        peak=build["peak"],
        stages=stages,
        filters=markdown_table(("passages", "retriever", "filter", "p50", "p95", "first"), filters),
        changes=markdown_table(("passages", "add", "remove", "peak MB"), changes),
    )
    plot(rows)
    write_table("growth", "Growth to a million passages", HEADER, rows, notes)


def _row(found: dict[str, Any], size: int, name: str, result: dict[str, Any]) -> Row:
    build, stage = found[f"{size}-build"], found.get(f"{size}-stage", {})
    spent, size_of = build["seconds"], build["bytes"]
    seconds = {
        "keyword": spent.get("keyword index", 0.0),
        "dense": spent.get("dense index", 0.0),
        "late": spent["encoding"],
        "late by centroids": spent["encoding"] + stage.get("total", 0.0),
        "hybrid": build["total"],
    }[name]
    disk = size_of[PART[name]] if name in PART else sum(size_of.values())
    disk += stage.get("bytes", 0) if name == "late by centroids" else 0
    times = (f"{result[key]:.1f}" for key in ("first", "p50", "p95", "cpu p50", "cpu p95"))
    memory = (f"{result[key]:.0f}" for key in ("rss", "anonymous"))
    return f"{size:,}", name, f"{seconds:.0f}", f"{disk / 1e6:,.0f}", *times, *memory


def _searches(
    found: dict[str, Any], sizes: Sequence[int]
) -> Iterator[tuple[int, str, str, dict[str, Any]]]:
    for size in sizes:
        for key in sorted(found):
            if key.startswith(f"{size}-search-"):
                name, where = key.removeprefix(f"{size}-search-").split("-", 1)
                yield size, name, where, found[key]


def _why(found: dict[str, Any], sizes: Sequence[int]) -> str:
    """Extrapolate the time of the dense index to a million passages."""
    taken = [
        (size, found[f"{size}-build"]["seconds"]["dense index"])
        for size in sizes
        if "dense index" in found.get(f"{size}-build", {}).get("seconds", {})
    ]
    told = ", ".join(f"{size:,} took {seconds:.0f} s" for size, seconds in taken)
    size, seconds = taken[-1]
    hours = seconds * 1e6 / size / 3600
    return f"{told}, so that a million would take {hours:.1f} hours at the least"


def plot(rows: Sequence[Row]) -> None:
    """Draw median milliseconds and anonymous memory by passages, with slopes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    for axes, column, label in zip(
        figure.subplots(1, 2), (7, 10), ("p50, ms of one core", "anonymous memory, MB"), strict=True
    ):
        for name in dict.fromkeys(row[1] for row in rows):
            points = [
                (int(str(row[0]).replace(",", "")), float(str(row[column])))
                for row in rows
                if row[1] == name
            ]
            x, y = np.array(points).T
            slope = f", slope {np.polyfit(np.log(x), np.log(y), 1)[0]:.2f}" if len(x) > 1 else ""
            axes.loglog(x, y, "o-", label=f"{name}{slope}")
        axes.set(xlabel="passages", ylabel=label)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    RESULTS.mkdir(exist_ok=True)
    figure.savefig(RESULTS / "growth.svg", metadata={"Date": None})
