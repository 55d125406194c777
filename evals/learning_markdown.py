"""The same report as Markdown, for terminals, pull requests and notes; pictures lie beside it.

Queries and titles are data: everything that Markdown or HTML reads as markup is escaped.
"""

import re
from collections.abc import Iterable, Sequence

from ..retrievers.training.gate import METRIC, Measured
from .learning_view import Document, Example, View

_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~&$:@]|(?<=www)\.)", re.IGNORECASE)


def plain(text: str) -> str:
    r"""Return a text on one line in which Markdown finds no markup.

    >>> print(plain("a|b <i> [x](y)"))
    a\|b \<i\> \[x\](y)
    """
    shown = "".join(c for c in " ".join(text.split()) if c.isprintable())
    return _MARKUP.sub(r"\\\1", shown)


def render_markdown(view: View, pictures: Sequence[str] = ()) -> str:
    """Write the report.

    Args:
        view: What is shown.
        pictures: Names of the figures that lie beside it, without ``.png``.
    """
    gate = view.record.gate
    lines = [
        f"# Version {view.card.version}: {gate.verdict}",
        "",
        f"{gate.reason}.",
        "",
        *_list("What would help", view.advice),
        "## Before and after",
        "",
    ]
    for part in view.parts:
        lines += [f"### {part.name}", "", f"{plain(part.note)}.", ""]
        if part.rows:
            level = f"{100 * part.rows[0].confidence:.4g} %"
            lines += _figures("retriever", level, ((row.retriever, row) for row in part.rows))
    lines += ["## By type of query", ""]
    for way, rows in view.types.items():
        lines += _figures(way, "95 %", rows)
    for title, examples in (("Won", view.won), ("Lost", view.lost)):
        lines += [f"## {title}", "", *(_example(each) for each in examples), ""]
    found = view.card.signals | {f"left out: {k}": v for k, v in view.record.dropped.items()}
    lines += _list("Signals", [f"{name}: {count}" for name, count in sorted(found.items())])
    lines += [f"![{name}]({name}.png)" for name in pictures]
    lines += ["", *_list("Lineage", [f"{name}: {v}" for name, v in view.lineage.items()])]
    return "\n".join(lines)


def _list(title: str, items: Sequence[str]) -> list[str]:
    return [f"## {title}", "", *(f"- {plain(item)}" for item in items), ""] if items else []


def _figures(first: str, level: str, rows: Iterable[tuple[str, Measured]]) -> list[str]:
    head = (first, f"{METRIC} before", "after", f"difference, {level}", "p", "queries")
    return [
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(
            f"| {plain(name)} | {row.before:.3f} | {row.after:.3f} | {row.difference:+.3f} "
            f"({row.low:+.3f} to {row.high:+.3f}) | {row.p:.2g} | {row.queries} |"
            for name, row in rows
        ),
        "",
    ]


def _example(found: Example) -> str:
    return (
        f"- {plain(found.query)}: {found.before:.3f} → {found.after:.3f}; wanted "
        f"{_titles(found.wanted)}; before {_titles(found.best_before)}; after "
        f"{_titles(found.best_after)}"
    )


def _titles(found: Sequence[Document]) -> str:
    return ", ".join(plain(each.title or each.id) for each in found) or "nothing"
