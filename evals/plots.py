"""Figures of a report as SVG to be placed inside a page, in the page's own colours.

Drawn with matplotlib under placeholder colours, which are then replaced by CSS variables, so that
one figure serves light and dark. Labels are data: no mathematics is read into them, and they are
escaped. The same data give the same bytes.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .curves import RankCount, StepCurves
from .results import AGENT, Measured, Metrics, measure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _GRID, _MUTED = "#010203", "#040506", "#070809"
SERIES = {
    "keyword": ("#0a0b01", "s", "-"),
    "dense": ("#0a0b02", "D", "--"),
    "late": ("#0a0b03", "^", "-."),
    "sparse": ("#0a0b06", "P", (0, (3, 1, 1, 1, 1, 1))),
    "hybrid": ("#0a0b04", "v", ":"),
    AGENT: ("#0a0b05", "o", "-"),
}
"""Colour, marker and line of every system: none is told by its colour alone."""

_VARIABLES = {_INK: "currentColor", _GRID: "var(--grid)", _MUTED: "var(--muted)"} | {
    colour: f"var(--{system})" for system, (colour, _, _) in SERIES.items()
}
_LIGHT = {
    _INK: "#1c2024",
    _GRID: "#e3e6ea",
    _MUTED: "#b4bac2",
    SERIES["keyword"][0]: "#0072b2",
    SERIES["dense"][0]: "#b8860b",
    SERIES["late"][0]: "#00815f",
    SERIES["sparse"][0]: "#6f52b5",
    SERIES["hybrid"][0]: "#a8467f",
    SERIES[AGENT][0]: "#c2410c",
}
"""The light colours of the page, see ``templates/base.html``."""

_STYLE = {
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _INK,
    "axes.titlesize": 10,
    "axes.titlecolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "figure.dpi": 72,
    "font.size": 10,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "retrail",
    "text.color": _INK,
    "text.parse_math": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
}


def plot_intervals(metrics: Metrics, names: Sequence[str], label: str) -> str:
    """Draw one panel a metric: every system's mean and interval.

    Args:
        metrics: What was measured.
        names: Metrics, those that a system lacks are left blank for it.
        label: Says what the figure shows, for those who do not see it.
    """
    systems = list(metrics)
    with page_figure(2.1 * len(names) + 0.8, 0.3 * len(systems) + 0.95, label) as (figure, svg):
        panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
        for panel, name in zip(panels, names, strict=True):
            for y, system in enumerate(systems):
                _interval(panel, metrics[system].get(name), y, system)
            panel.set_title(name)
            panel.grid(axis="y", visible=False)
            panel.margins(x=0.15)
            panel.locator_params(axis="x", nbins=4)
        panels[0].set_yticks(range(len(systems)), systems)
        panels[0].set_ylim(len(systems) - 0.5, -0.5)
    return svg[0]


def plot_types(by_type: Mapping[str, Metrics], names: Sequence[tuple[str, str]], label: str) -> str:
    """Draw one panel a metric: its mean and interval for each type of question.

    Args:
        by_type: type → what was measured.
        names: ``(system, metric)`` of every panel.
        label: Says what the figure shows.
    """
    types = list(by_type)
    with page_figure(3.3 * len(names) + 0.8, 0.3 * len(types) + 0.95, label) as (figure, svg):
        panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
        for panel, (system, metric) in zip(panels, names, strict=True):
            for y, name in enumerate(types):
                _interval(panel, by_type[name].get(system, {}).get(metric), y, system)
            panel.set_title(f"{system}: {metric}")
            panel.grid(axis="y", visible=False)
            panel.set_xlim(-0.03, 1.03)
        panels[0].set_yticks(range(len(types)), [_short(name) for name in types])
        panels[0].set_ylim(len(types) - 0.5, -0.5)
    return svg[0]


def plot_steps(curves: StepCurves, label: str) -> str:
    """Draw how much evidence was retrieved and opened after so many steps."""
    with page_figure(5.2, 3.1, label) as (figure, svg):
        axes = figure.subplots()
        for points, system, name in (
            (curves.retrieved, "late", "retrieved"),
            (curves.opened, AGENT, "opened"),
        ):
            colour, _, _ = SERIES[system]
            steps = range(len(points))
            means = [point.mean or 0.0 for point in points]
            if all(point.low is not None for point in points):
                low, high = [p.low or 0.0 for p in points], [p.high or 0.0 for p in points]
                axes.fill_between(steps, low, high, color=colour, alpha=0.18, linewidth=0)
            line = "-" if system == AGENT else "--"
            axes.plot(steps, means, color=colour, linestyle=line, label=name)
        axes.set_xlabel("steps")
        axes.set_ylabel("evidence recall")
        axes.set_ylim(-0.02, 1.02)
        axes.legend(loc="lower right")
    return svg[0]


def plot_reading(curves: Mapping[str, Sequence[float]], mean_opened: float, label: str) -> str:
    """Draw evidence recall against documents read, and where the agent stops on average."""
    with page_figure(5.2, 3.1, label) as (figure, svg):
        axes = figure.subplots()
        for system, values in curves.items():
            colour, marker, line = SERIES[system]
            axes.plot(
                range(len(values)),
                values,
                color=colour,
                linestyle=line,
                marker=marker,
                markersize=3.5,
                linewidth=2 if system == AGENT else 1.2,
                label=system,
            )
        axes.axvline(mean_opened, color=_INK, linewidth=0.8, linestyle=":")
        axes.annotate(
            f"agent reads {mean_opened:.1f}",
            (mean_opened, 1),
            xycoords=("data", "axes fraction"),
            xytext=(4, -10),
            textcoords="offset points",
            fontsize=9,
        )
        axes.set_xlabel("documents read")
        axes.set_ylabel("evidence recall")
        axes.set_ylim(-0.02, 1.02)
        axes.legend(loc="lower right", fontsize=9)
    return svg[0]


def plot_ranks(counts: Sequence[RankCount], label: str) -> str:
    """Draw at which ranks the opened documents were shown, evidence and other."""
    with page_figure(5.2, 3.1, label) as (figure, svg):
        axes = figure.subplots()
        places = range(len(counts))
        evidence = [count.evidence for count in counts]
        other = [count.other for count in counts]
        axes.bar(places, evidence, color=SERIES[AGENT][0], label="evidence")
        axes.bar(places, other, bottom=evidence, color=_MUTED, label="other")
        axes.set_xticks(places, [count.label for count in counts])
        axes.set_xlabel("rank in the last list that showed it")
        axes.set_ylabel("documents opened")
        axes.grid(axis="x", visible=False)
        axes.legend(loc="upper right")
    return svg[0]


def plot_costs(points: Sequence[tuple[float, float]], cost: str, label: str) -> str:
    """Draw every question's cost and evidence recall, and the mean recall by quarters of cost.

    Args:
        points: ``(cost, evidence recall)`` of every question.
        cost: Name of the cost.
        label: Says what the figure shows.
    """
    with page_figure(5.2, 3.1, label) as (figure, svg):
        axes = figure.subplots()
        colour = SERIES[AGENT][0]
        # Recall takes few values: a small, fixed shift keeps equal points apart.
        shifts = [((i * 7919) % 101 / 100 - 0.5) * 0.05 for i in range(len(points))]
        axes.plot(
            [x for x, _ in points],
            [y + shift for (_, y), shift in zip(points, shifts, strict=True)],
            linestyle="none",
            marker="o",
            markersize=4,
            alpha=0.4,
            color=colour,
            label="one question",
        )
        for x, found in _quarters(points):
            _error_bar(axes, x, found)
        axes.set_xlabel(cost)
        axes.set_ylabel("evidence recall (opened)")
        axes.locator_params(axis="x", integer=True)
        axes.set_ylim(-0.05, 1.05)
    return svg[0]


def plot_differences(
    rows: Sequence[tuple[str, float, float, float]],
    label: str,
    axis: str = "B − A, 95 % interval",
    png: Path | None = None,
) -> str:
    """Draw differences with their intervals around zero.

    Args:
        rows: ``(name, difference, low, high)``.
        label: Says what the figure shows.
        axis: What the differences are.
        png: Where to write it as a picture, too.
    """
    with page_figure(7.5, 0.26 * len(rows) + 0.9, label, png) as (figure, svg):
        axes = figure.subplots()
        axes.axvline(0, color=_INK, linewidth=0.8)
        for y, (_, difference, low, high) in enumerate(rows):
            axes.plot([low, high], [y, y], color=SERIES[AGENT][0], linewidth=2)
            axes.plot([difference], [y], color=SERIES[AGENT][0], marker="o", markersize=6)
        axes.set_yticks(range(len(rows)), [_short(name) for name, *_ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(axis)
    return svg[0]


def _interval(axes: "Axes", found: Measured | None, y: float, system: str) -> None:
    if found is None or found.mean is None:
        return
    colour, marker, _ = SERIES[system]
    if found.low is not None and found.high is not None:
        axes.plot([found.low, found.high], [y, y], color=colour, linewidth=2)
    axes.plot([found.mean], [y], color=colour, marker=marker, markersize=6)


def _error_bar(axes: "Axes", x: float, found: Measured) -> None:
    if found.low is not None and found.high is not None:
        axes.plot([x, x], [found.low, found.high], color=_INK, linewidth=1.5)
    axes.plot([x], [found.mean or 0.0], color=_INK, marker="D", markersize=5)


def _quarters(points: Sequence[tuple[float, float]]) -> Iterator[tuple[float, Measured]]:
    ordered = sorted(points)
    bounds = [round(len(ordered) * part / 4) for part in range(5)]
    for start, end in pairwise(bounds):
        part = ordered[start:end]
        if part:
            recalls = [recall for _, recall in part]
            yield sum(x for x, _ in part) / len(part), measure(recalls, resamples=1_000)


@contextmanager
def page_figure(
    width: float, height: float, label: str, png: Path | None = None
) -> Iterator[tuple["Figure", list[str]]]:
    """Give a figure to draw in; the list holds its SVG on leaving.

    Args:
        width: In inches.
        height: In inches.
        label: Says what the figure shows, for those who do not see it.
        png: Where to write the same figure as a picture, on white, for pages that take no SVG.
    """
    from matplotlib import style
    from matplotlib.figure import Figure

    svg: list[str] = []
    with style.context(["default", _STYLE]):  # not what this machine has been set to
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, svg
        text = StringIO()
        nothing: Any = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(text, format="svg", transparent=True, metadata=nothing)
        if png is not None:
            _on_white(figure)
            figure.savefig(png, dpi=144, facecolor="white", metadata={"Software": None})
    svg.append(_for_page(text.getvalue(), label))


def _on_white(figure: "Figure") -> None:
    """Give every part that has a placeholder colour the colour it has on a light page."""
    from matplotlib.colors import to_hex

    for part in figure.findobj():
        for name in ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor"):
            read, write = getattr(part, f"get_{name}", None), getattr(part, f"set_{name}", None)
            if read is None or write is None:
                continue
            try:
                colour = to_hex(read())
            except ValueError:  # "auto", or an array of colours
                continue
            if colour in _LIGHT:
                write(_LIGHT[colour])


def _for_page(svg: str, label: str) -> str:
    """Cut the document's head, take the page's colours, and make ids and sizes those of a part."""
    from markupsafe import escape

    svg = re.sub(r"<style.*?</style>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    for placeholder, variable in _VARIABLES.items():
        svg = svg.replace(placeholder, variable)
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", svg)
    own = f"f{blake2b(label.encode(), digest_size=4).hexdigest()}-"
    svg = re.sub(r'( id="|url\(#|href="#)', rf"\1{own}", svg)
    width = re.search(r'width="([\d.]+)pt"', svg)
    size = f"max-width:{float(width[1]) * 4 / 3:.0f}px" if width else ""
    svg = re.sub(r'(<svg[^>]*?) (?:height|width)="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) (?:height|width)="[^"]*"', r"\1", svg, count=1)
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(label)}" style="{size}"', 1)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 40 else line[:39] + "…"
