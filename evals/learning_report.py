"""The report of a learned version: what the gate saw, why it decided so, and what would help.

It can be made again at any time from what lies in the version's folder. Queries and titles are data
and are escaped; see ``report``.
"""

from pathlib import Path

from ..retrievers.training.gate import METRIC
from ..retrievers.training.record import read_record
from ..retrievers.training.registry import Registry
from .learning_markdown import render_markdown
from .learning_plots import plot_openings, plot_training
from .learning_view import View, view_of
from .plots import plot_differences
from .report import render_template

REPORT = "report.html"
_RANKS = 20


def write_learning_report(root: Path, version: int) -> Path:
    """Write ``report.html``, ``report.md`` and its pictures into a version's folder.

    Args:
        root: The workspace directory.
        version: Number of the version.

    Returns:
        The path of the page.

    Raises:
        ConfigError: There is no such version, or it has no record of its gate.
        CorruptStore: Its card or record is damaged.
    """
    card = Registry(root).card(version)
    folder = root / card.reference
    view = view_of(card, read_record(folder))
    figures = _figures(view, folder)
    text = render_template(
        "learning.html", view=view, figures=figures, behaviour=_behaviour(view), metric=METRIC
    )
    (folder / "report.md").write_text(render_markdown(view, list(figures)), encoding="utf-8")
    (folder / REPORT).write_text(text, encoding="utf-8")
    return folder / REPORT


def _figures(view: View, folder: Path) -> dict[str, str]:
    """Draw the figures; each is written as a picture, too."""
    record = view.record
    rows = [
        (f"{part.name}: {row.retriever}", row.difference, row.low, row.high)
        for part in view.parts
        for row in part.rows
        if row.queries
    ]
    label = "differences with their intervals"
    axis = f"{METRIC}, after − before"
    found = {"differences": plot_differences(rows, label, axis, folder / "differences.png")}
    if record.curve:
        label = "loss and learning rate over the steps of training"
        found["training"] = plot_training(record.curve, label, folder / "training.png")
    ranks = record.behaviour.all.ranks[:_RANKS] if record.behaviour else []
    if ranks:
        label = "share opened of the documents shown at each rank"
        found["openings"] = plot_openings(ranks, label, folder / "openings.png")
    return found


def _behaviour(view: View) -> list[tuple[str, ...]]:
    """Return what agents did, over all runs and by outcome, as rows of text."""
    behaviour = view.record.behaviour
    if behaviour is None:
        return []
    groups = (behaviour.all, behaviour.answered, behaviour.unanswered)
    names = {
        "runs": "runs",
        "searches": "searches",
        "openings": "openings",
        "searched_and_opened": "searches that led to an opening",
        "mean_rank": "mean rank of what was opened",
        "mean_rank_shown": "mean rank of what was shown",
        "rejected": "rejected, of judged openings",
    }
    return [
        (name, *(_number(getattr(group, field)) for group in groups))
        for field, name in names.items()
    ]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.2f}"
