"""The search command: one query for people, a file of queries for evaluation."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.errors import ConfigError
from .console import Output, clean, one_line
from .errors import Failed
from .options import DEFAULT_WORKSPACE, By, DiversifyBy, JsonOption, RankBy, WorkspaceOption
from .queries import Query, read_queries

if TYPE_CHECKING:
    from rich.text import Text

    from ..agents.workspace import Workspace
    from ..core.documents import Hit
    from .progress import Report

SHOWN_DOCUMENTS = 10
RUN_DOCUMENTS = 100

_SNIPPET = 300


def search(
    query: Annotated[str | None, typer.Argument(help="What to look for.", metavar="QUERY")] = None,
    by: Annotated[By, typer.Option(help="The retriever.")] = By.HYBRID,
    where: Annotated[
        str | None,
        typer.Option(metavar="FILTER", help="Such as: date >= 2023-10-01 and source = 'BBC'."),
    ] = None,
    k: Annotated[
        int | None,
        typer.Option(
            "-k",
            min=1,
            metavar="N",
            help=f"Documents: {SHOWN_DOCUMENTS}, or {RUN_DOCUMENTS} a run.",
        ),
    ] = None,
    rank_by: Annotated[RankBy, typer.Option(help="What ranks for --by filtered.")] = RankBy.HYBRID,
    order_by: Annotated[
        str | None,
        typer.Option(metavar="FIELD", help="List by this field; -FIELD for descending."),
    ] = None,
    diversify: Annotated[
        DiversifyBy | None,
        typer.Option(
            help="Hybrid search: choose hits that do not repeat each other.",
            show_default="as the settings say",
        ),
    ] = None,
    diversify_lambda: Annotated[
        float | None,
        typer.Option(
            "--lambda",
            min=0,
            max=1,
            help="Of --diversify; 1: relevance only, 0: only what earlier hits lack.",
            show_default="as the settings say",
        ),
    ] = None,
    expand: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Hybrid search: also score the N passages nearest to each of the best.",
            show_default="as the settings say",
        ),
    ] = None,
    queries: Annotated[
        Path | None, typer.Option(metavar="FILE", help="BEIR queries instead of QUERY.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --queries: the TREC run to write.")
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Search the corpus."""
    from ..agents.workspace import Workspace

    out = Output(as_json=as_json)
    _check_options(query, queries, run, by, order_by)
    options: dict[str, Any] = {
        "by": by.value,
        "rank_by": rank_by.value,
        "order_by": order_by,
        "diversify": diversify and diversify.value,
        "diversify_lambda": diversify_lambda,
        "expand": expand,
    }
    with Workspace.open(workspace) as opened:
        options["where"] = opened.index.filter(where)
        if queries is not None and run is not None:
            options["k"] = k or RUN_DOCUMENTS
            _write_run(out, opened, queries, run, options)
            return
        hits = opened.search(query or "", k=k or SHOWN_DOCUMENTS, **options)
    document = {
        "query": query or "",
        "by": by.value,
        "where": where,
        "hits": [hit.to_json() for hit in hits],
    }
    if not hits:
        out.note("nothing found")
    out.result(document, *(_hit_text(hit) for hit in hits))


def _check_options(
    query: str | None, queries: Path | None, run: Path | None, by: By, order_by: str | None
) -> None:
    if (queries is None) != (run is None):
        raise ConfigError("--queries and --run belong together", fix="pass both or none")
    if queries is not None and query is not None:
        raise ConfigError("QUERY and --queries exclude each other", fix="pass one of them")
    if query is None and queries is None and by is not By.FILTERED:
        raise ConfigError("there is no query", fix="pass QUERY, or --queries with --run")
    if order_by and by is not By.FILTERED:
        raise ConfigError("--order-by lists what a filter admits", fix="pass --by filtered")


def _write_run(
    out: Output, workspace: "Workspace", queries: Path, run: Path, options: dict[str, Any]
) -> None:
    from ..core.metrics import write_trec_run
    from ..retrievers.searcher import MAX_QUERY_CHARACTERS

    found, problems = read_queries(queries, longest=MAX_QUERY_CHARACTERS)
    out.problems(problems, len(problems))
    if not found:
        raise Failed(
            f"there is no query in {str(queries)!r}", fix='write lines {"_id": …, "text": …}'
        )
    if not run.parent.is_dir():
        raise ConfigError(f"there is no folder {str(run.parent)!r}", fix="make it first")
    with out.progress() as progress:
        rankings = _rankings(workspace, found, options, progress)
        try:
            count = write_trec_run(run, rankings, f"retrail-{options['by']}")
        except ValueError as error:
            raise Failed(str(error), fix="rename the document or the query") from error
    document = {"queries": count, "skipped": len(problems), "problems": problems, "run": str(run)}
    out.result(document, f"{count} queries · {len(problems)} skipped · {run}")


def _rankings(
    workspace: "Workspace", queries: list[Query], options: dict[str, Any], progress: "Report"
) -> Iterator[tuple[str, list[tuple[str, float]]]]:
    for done, query in enumerate(queries, 1):
        hits = workspace.search(query.text, **options)
        yield query.id, [(hit.doc_id, hit.score) for hit in hits]
        progress("searching", done, len(queries))


def _hit_text(hit: "Hit") -> "Text":
    """Show a hit in two or three lines: rank, score, id, title, snippet, address."""
    from rich.text import Text

    from ..tools.render import snippet

    passage = hit.passage
    text = Text.assemble(
        (f"{hit.rank:>3}. ", "bold"),
        (f"{hit.score:.4f}  ", "cyan"),
        (one_line(passage.id), "bold"),
        f"  {one_line(passage.title)}" if passage.title else "",
        (f"  in {hit.field}", "green") if hit.field else "",
        f"\n     {snippet(clean(passage.text), _SNIPPET)}",
    )
    if passage.url:
        text.append(f"\n     {one_line(passage.url)}", style="dim")
    return text
