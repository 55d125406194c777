"""Figures of a training: how its loss fell, and at which ranks agents opened documents.

They follow ``plots``: SVG in the page's colours, and the same as a picture where one is wanted.
"""

from collections.abc import Sequence
from pathlib import Path

from ..retrievers.training.curve import Point
from ..retrievers.training.diagnostics import AtRank
from .plots import SERIES, page_figure
from .results import AGENT


def plot_training(points: Sequence[Point], label: str, png: Path | None = None) -> str:
    """Draw loss and learning rate over the steps.

    Args:
        points: At least one.
        label: Says what the figure shows.
        png: Where to write it as a picture, too.
    """
    steps = [point.step for point in points]
    with page_figure(5.2, 3.1, label, png) as (figure, svg):
        axes = figure.subplots()
        colour, marker, _ = SERIES[AGENT]
        losses = [point.loss for point in points]
        lines = axes.plot(
            steps, losses, color=colour, marker=marker, markersize=3, linewidth=1.5, label="loss"
        )
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        axes.set_ylim(bottom=min(0.0, *losses))
        rates = axes.twinx()
        colour, _, line = SERIES["dense"]
        rates.spines["right"].set_visible(True)
        rates.grid(visible=False)
        values = [point.learning_rate for point in points]
        lines += rates.plot(steps, values, color=colour, linestyle=line, label="learning rate")
        rates.set_ylabel("learning rate")
        rates.set_ylim(bottom=0)
        rates.ticklabel_format(axis="y", style="plain", useOffset=False)
        axes.legend(handles=lines, loc="upper right", fontsize=9)
    return svg[0]


def plot_openings(ranks: Sequence[AtRank], label: str, png: Path | None = None) -> str:
    """Draw which share of what was shown at each rank was opened.

    Args:
        ranks: At least one.
        label: Says what the figure shows.
        png: Where to write it as a picture, too.
    """
    with page_figure(5.2, 3.1, label, png) as (figure, svg):
        axes = figure.subplots()
        shares = [at.opened_share for at in ranks]
        axes.bar([at.rank for at in ranks], shares, color=SERIES[AGENT][0])
        axes.locator_params(axis="x", integer=True)
        axes.set_xlabel("rank")
        axes.set_ylabel("opened, of what was shown there")
        axes.grid(axis="x", visible=False)
    return svg[0]
