"""Commands about trained versions: what there is, what serves, and what serves next."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .background import detach
from .console import Output, one_line
from .options import DEFAULT_WORKSPACE, JsonOption, SwapBy, WorkspaceOption

if TYPE_CHECKING:
    from rich.table import Table

    from ..retrievers.corpus import Published
    from ..retrievers.training.gate import Measured
    from ..retrievers.training.registry import Card

models = typer.Typer(no_args_is_help=True, help="Trained versions and what serves.")


@models.command("list")
def list_(workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """List the trained versions with their lineage."""
    from ..agents.workspace import Workspace

    out = Output(as_json=as_json)
    with Workspace.open(workspace) as opened:
        cards, status = opened.models(), opened.status()
    serving = status["query"] or status["encoder"]
    document = {
        "serving": serving,
        "passages": status["encoder"],
        "models": [
            card.model_dump(mode="json")
            | {"reference": card.reference, "serving": card.reference == serving}
            for card in cards
        ],
    }
    shown = _serving(serving, status["encoder"])
    out.result(document, *([_cards(cards, serving)] if cards else []), f"serving: {shown}")


@models.command()
def promote(
    version: Annotated[
        int, typer.Argument(min=0, metavar="VERSION", help="Its number; 0: the settings' encoder.")
    ],
    swap: Annotated[
        SwapBy,
        typer.Option(help="A whole model: encode the passages with it first, or serve it now."),
    ] = SwapBy.REINDEX,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Serve a version, whatever the gate said; one that encodes queries only serves at once."""
    from ..agents.workspace import Workspace

    out = Output(as_json=as_json)
    with Workspace.open(workspace) as opened, out.progress() as progress:
        generation = opened.promote(version, swap=swap.value, progress=progress)
        published = opened.index.published
    _show_serving(out, generation, published)


@models.command()
def rollback(workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """Serve what served before."""
    from ..agents.workspace import Workspace

    out = Output(as_json=as_json)
    with Workspace.open(workspace) as opened, out.progress() as progress:
        generation = opened.rollback(progress=progress)
        published = opened.index.published
    _show_serving(out, generation, published)


@models.command()
def settle(
    version: Annotated[
        int | None,
        typer.Argument(
            min=1, metavar="VERSION", help="A whole model.", show_default="the one that serves"
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Serve it whatever it is measured to lose.")
    ] = False,
    background: Annotated[
        bool, typer.Option("--background", help="Return at once; writes to a log file.")
    ] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Encode the passages with a version that serves at once, aside; killed, it goes on."""
    from ..agents.workspace import Workspace

    out = Output(as_json=as_json)
    with Workspace.open(workspace) as opened:
        if background:
            arguments = [str(version)] if version else []
            detach(out, opened.root, ["models", "settle"], [*arguments, *["--force"] * force])
            return
        with out.progress() as progress:
            report = opened.settle(version, force=force, progress=progress)
    verdict = f"version {report.version} {report.verdict}: {report.reason}"
    tables = [measured_table(report.measured)] if report.measured else []
    out.result(report.model_dump(mode="json"), *tables, verdict)


@models.command()
def prune(
    keep: Annotated[int, typer.Option(min=1, help="Newest versions that stay whole.")] = 5,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Delete the weights of old versions; cards, reports and what may serve again stay."""
    from ..agents.workspace import Workspace

    out = Output(as_json=as_json)
    with Workspace.open(workspace) as opened:
        pruned = opened.prune(keep)
    named = ", ".join(map(str, pruned)) or "none"
    out.result({"pruned": pruned}, f"versions that lost their weights: {named}")


def _show_serving(out: Output, generation: int, published: "Published") -> None:
    document = {
        "generation": generation,
        "serving": published.serving,
        "passages": published.encoder,
    }
    shown = _serving(published.serving, published.encoder)
    out.result(document, f"serving: {shown} in {generation}")


def _serving(queries: str, passages: str) -> str:
    return queries if queries == passages else f"{queries} for queries, {passages} for passages"


def measured_table(measured: "list[Measured]") -> "Table":
    """Tabulate retrievers before and after."""
    from rich.table import Table

    interval = f"{100 * max(row.confidence for row in measured):.4g} % interval"
    table = Table("retriever", "metric", "before", "after", "difference", interval, "queries")
    for row in measured:
        table.add_row(
            row.retriever,
            row.metric,
            f"{row.before:.3f}",
            f"{row.after:.3f}",
            f"{row.difference:+.3f}",
            f"{row.low:+.3f} to {row.high:+.3f}",
            str(row.queries),
        )
    return table


def _cards(cards: "list[Card]", serving: str) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table("version", "made", "mode", "from", "runs", "difference", "verdict", "")
    for card in cards:
        mode = str(card.hyperparameters.get("mode", "full"))
        shown = -1 if mode == "fusion" else 0  # hybrid search is measured last
        gain: Any = card.measured[shown] if card.measured else None
        table.add_row(
            str(card.version),
            card.created_at[:16].replace("T", " "),
            mode,
            Text(one_line(card.parent)),
            str(len(card.trajectories)),
            f"{gain.difference:+.3f} {gain.metric}" if gain else "",
            card.verdict,
            "serving" if card.reference == serving else "",
        )
    return table
