"""Commands that measure: eval, and compare of what it left."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.errors import ConfigError
from .console import Output, one_line
from .errors import Failed
from .options import JsonOption

if TYPE_CHECKING:
    from rich.table import Table

    from ..evals import Comparison, Measured, Report
    from ..evals.compare import Difference

_RESULTS = Path("eval")
_SHOWN_MOVERS = 5

MetricsOption = Annotated[
    str | None,
    typer.Option(metavar="LIST", help="ir_measures' names, such as nDCG@10,R@100."),
]
SeedOption = Annotated[int, typer.Option(min=0, metavar="N", help="Of draws and resampling.")]


def evaluate(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="DIR", help="Folders in BEIR layout: corpus, queries, qrels/."),
    ],
    by: Annotated[
        str,
        typer.Option(metavar="LIST", help="keyword,dense,late,sparse,hybrid; all: all but sparse."),
    ] = "all",
    planner: Annotated[
        str, typer.Option(metavar="rules|llm|none", help="The agent; none: retrievers only.")
    ] = "rules",
    model: Annotated[
        str | None, typer.Option(metavar="PROVIDER:NAME", help="Chat model, implies llm.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="Judgements, where there are several.")
    ] = None,
    metrics: MetricsOption = None,
    k: Annotated[int, typer.Option("-k", min=1, metavar="N", help="Documents a query.")] = 100,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Queries at most, drawn by the seed.")
    ] = None,
    seed: SeedOption = 0,
    out_dir: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Results; ./eval/NAME if not given; resumable."),
    ] = None,
    workspace: Annotated[
        Path | None,
        typer.Option(
            "--workspace",
            "-w",
            metavar="DIR",
            help="Search this one, and add the corpus to it; else one beside the results.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure retrievers and the agent on datasets: figures, run files, a report."""
    out = Output(as_json=as_json)
    targets = _targets(folders, out_dir, workspace)
    options: dict[str, Any] = {
        "planner": None if planner == "none" else planner,
        "model": model,
        "split": split,
        "k": k,
        "limit": limit,
        "seed": seed,
    }
    if by != "all":
        options["by"] = _listed(by)
    if metrics is not None:
        options["metrics"] = _listed(metrics)
    reports = [
        _evaluate(out, folder, target, workspace, options) for folder, target in targets.items()
    ]
    summaries = [report.summary.model_dump(mode="json") for report in reports]
    document = summaries[0] if len(summaries) == 1 else {"summaries": summaries}
    out.result(document, *(item for report in reports for item in _shown(report)))


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="Results of eval, or a TREC run.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="The same of what is to be better.")],
    qrels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Judgements, for TREC runs.")
    ] = None,
    metrics: MetricsOption = None,
    intersect: Annotated[
        bool, typer.Option("--intersect", help="Over the queries both have, where they differ.")
    ] = False,
    seed: SeedOption = 0,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a page.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say by how much B is better than A, and how sure that is."""
    from ..evals import compare as compare_all
    from ..evals.plan import METRICS

    out = Output(as_json=as_json)
    names = METRICS if metrics is None else _listed(metrics)
    found = compare_all(a, b, qrels=qrels, metrics=names, intersect=intersect, seed=seed)
    if html is not None:
        from ..core.lines import write_lines
        from ..evals.report import render_comparison

        write_lines(html, [render_comparison(found)])
    for note in found.notes:
        out.note(note)
    if found.only_a or found.only_b:
        out.note(
            f"over the {found.queries} queries both have; "
            f"{found.only_a} only in A and {found.only_b} only in B were left out"
        )
    out.result(found.model_dump(mode="json"), _differences(found), *_movers(found))


def _targets(folders: list[Path], out: Path | None, workspace: Path | None) -> dict[Path, Path]:
    """Choose a folder of results for every dataset."""
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        raise ConfigError("two datasets have the same name", fix="evaluate them one by one")
    if workspace is not None and len(folders) > 1:
        raise ConfigError(
            "--workspace holds one corpus", fix="evaluate the datasets one by one, or leave it out"
        )
    if out is not None and len(folders) == 1:
        return {folders[0]: out}
    return {folder: (out or _RESULTS) / name for folder, name in zip(folders, names, strict=True)}


def _listed(text: str) -> tuple[str, ...]:
    r"""Split a list at its commas, not at those between parentheses.

    >>> _listed("nDCG@10, AP(rel=2,judged_only=True)@5")
    ('nDCG@10', 'AP(rel=2,judged_only=True)@5')
    """
    parts, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return tuple(part.strip() for part in parts if part.strip())


def _evaluate(
    out: Output, folder: Path, target: Path, workspace: Path | None, options: dict[str, Any]
) -> "Report":
    from ..evals import evaluate as evaluate_one

    with out.progress() as progress:
        report = evaluate_one(folder, target, workspace=workspace, progress=progress, **options)
    for note in report.summary.notes:
        out.note(note)
    statuses = report.summary.statuses
    if statuses and set(statuses) == {"failed"}:
        raise Failed("every question failed", fix="the reason is above; the same command goes on")
    return report


def _shown(report: "Report") -> "Iterator[Table | str]":
    from rich.table import Table

    from ..evals.results import AGENT

    summary = report.summary
    name = one_line(summary.configuration.dataset)
    yield f"{name}: {summary.counts.evaluated} queries, {summary.counts.documents} documents"
    metrics = summary.configuration.metrics
    table = Table("", *metrics)
    for system, measured in summary.metrics.items():
        table.add_row(system, *(_measured(metric, measured[metric]) for metric in metrics))
    yield table
    if AGENT in summary.metrics:
        table = Table("agent", "mean, 95 % interval", "questions")
        for metric, measured in summary.metrics[AGENT].items():
            if metric not in metrics and measured.queries:
                table.add_row(metric, _measured(metric, measured), str(measured.queries))
        yield table
        yield " · ".join(f"{count} {status}" for status, count in summary.statuses.items())
    yield str(report.folder / "report.html")


def _measured(metric: str, found: "Measured") -> str:
    from ..evals.agent_metrics import show_value

    low, high = show_value(metric, found.low), show_value(metric, found.high)
    return show_value(metric, found.mean) + ("" if found.low is None else f" [{low}, {high}]")


def _differences(found: "Comparison") -> "Table":
    from rich.table import Table

    table = Table("", "metric", "A", "B", "B − A, 95 %", "p", "p, Holm", "wins/ties/losses")
    for row in found.differences:
        table.add_row(
            row.system,
            row.metric + (" ↓" if row.lower_is_better else ""),
            f"{row.a:.3f}",
            f"{row.b:.3f}",
            f"{row.difference:+.3f} [{row.low:+.3f}, {row.high:+.3f}]",
            f"{row.p:.4f}",
            f"{row.p_corrected:.4f}{' *' if row.significant else ''}",
            f"{row.wins}/{row.ties}/{row.losses}",
        )
    return table


def _movers(found: "Comparison") -> Iterator[str]:
    row: Difference = found.differences[0]
    if row.movers:
        yield f"most changed by {row.system} {row.metric}:"
    for mover in row.movers[:_SHOWN_MOVERS]:
        yield one_line(f"  {mover.a:.3f} → {mover.b:.3f}  {mover.query_id}  {mover.question[:80]}")
