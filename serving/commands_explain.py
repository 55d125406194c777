"""The explain command: which words of a passage a query met, and how much each counted."""

from typing import TYPE_CHECKING, Annotated

import typer

from .console import Output, clean, one_line
from .options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption

if TYPE_CHECKING:
    from rich.text import Text

    from ..core.documents import Passage
    from ..retrievers.explain import Explanation, TextSpan

_STYLES = ((0.66, "bold black on bright_yellow"), (0.33, "bold yellow"), (0.0, "underline"))
"""From which weight on words are shown how."""


def explain(
    query: Annotated[str, typer.Argument(help="What was looked for.", metavar="QUERY")],
    identifier: Annotated[
        str, typer.Argument(help="A passage, or a document: its best passage.", metavar="ID")
    ],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Show which words of a passage give it its late score."""
    from ..agents.workspace import Workspace

    out = Output(as_json=as_json)
    with Workspace.open(workspace) as opened:
        found = opened.index.explain(query, identifier)
        passage = opened.index.passages([found.passage_id])[found.passage_id]
    out.result(found.model_dump(mode="json"), *_shown(found, passage))


def _shown(found: "Explanation", passage: "Passage") -> "list[Text]":
    from rich.text import Text

    head = Text.assemble((f"{found.score:.4f}  ", "cyan"), (one_line(passage.id), "bold"))
    if found.field:
        head.append(f"  in {found.field}", style="green")
    lines = [
        Text.assemble(
            (f"{match.score:8.4f}  ", "cyan"),
            (one_line(match.query.text), "bold"),
            f" → {_met(match.passage, match.name)}",
        )
        for match in found.matches
    ]
    lines.append(Text(f"{found.added:8.4f}  tokens that the encoder adds", style="dim"))
    if not found.stored:
        lines.append(Text("Encoded again, as not every token is stored.", style="dim"))
    title = [_coloured(passage.title, found, "title")] if passage.title else []
    return [head, *title, _coloured(passage.text, found, "text"), Text(""), *lines]


def _met(span: "TextSpan", name: str | None) -> str:
    if span.field == "added":
        return "a token that the encoder adds"
    inside = f", {name}" if name not in (None, span.field) else ""
    return f"{one_line(span.text)}  ({span.field} {span.start}-{span.end}{inside})"


def _coloured(source: str, found: "Explanation", field: str) -> "Text":
    """Clean a text piece by piece, as positions are those of the text before."""
    from rich.text import Text

    text, done = Text(), 0
    for mark in found.highlights:
        if mark.field == field:
            style = next(style for least, style in _STYLES if mark.weight >= least)
            text.append(clean(source[done : mark.start]))
            text.append(clean(source[mark.start : mark.end]), style=style)
            done = mark.end
    return text.append(clean(source[done:]))
