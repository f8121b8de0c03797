"""A chart as PNG and PDF, for a paper or a slide: as on the page, on white. Without dates, so the same is the same."""

import math
import warnings
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from toolkit.evaluation.pareto_plot import spread
from toolkit.report.axes import Axis, axis, categories, from_zero, front, is_category, numbers, totals
from toolkit.report.page import Chart, Point
from toolkit.report.palette import COLOURS, SHAPES, Look
from toolkit.report.shown import style, visible

_INK, _SOFT, _RULE = "#1c1e21", "#5a5f66", "#dedfdc"
_NAMED = 0.045  # of the axes' height, between two names
_WIDTH, _ABOVE = 9.0, 0.45  # inches: of the picture, and above the axes


def save(chart: Chart, *paths: Path) -> None:
    """In the format that each name ends with."""
    lying = chart.kind in ("bars", "stacked")
    names = categories(chart) if lying else []
    keys = -(-len(chart.series) // 3) * 0.2 + 0.1 if len(chart.series) > 1 else 0.0  # the legend's height
    below, inner = 0.65 + keys, 4.0
    left, right = 0.9, 0.3
    if lying:
        bars = 1 if chart.kind == "stacked" else len(chart.series)
        inner = 0.5 + len(names) * (0.12 + 0.17 * bars)
        left, right = min(3.2, 0.3 + 0.078 * max(map(len, names), default=0)), 0.75
    elif any(point.marked and point.label for series in chart.series for point in series.points):
        right = 2.6  # for names
    height = below + inner + _ABOVE
    figure = Figure(figsize=(_WIDTH, height), facecolor="white")
    FigureCanvasAgg(figure)
    place = (left / _WIDTH, below / height, (_WIDTH - left - right) / _WIDTH, inner / height)
    axes = figure.add_axes(place, axisbelow=True)
    _bare(axes, across=lying)
    _bars(axes, chart, names) if lying else _points(axes, chart)
    axes.set_title(_plain(chart.title), loc="left", fontsize=11, fontweight="bold", color=_INK, x=0)
    if keys:
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower left", ncols=3, fontsize=8, frameon=False, bbox_to_anchor=(0.01, 0))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # shown as a box
        for path in paths:
            dated = {"CreationDate": None} if path.suffix == ".pdf" else {"Software": None}
            figure.savefig(path, dpi=120, metadata=dated)


def _bare(axes: Axes, *, across: bool) -> None:
    for side in ("top", "right", "left" if across else "top"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_SOFT)
    axes.tick_params(colors=_SOFT, labelsize=9, length=0)
    axes.grid(axis="x" if across else "y", color=_RULE, linewidth=0.8)


def _bars(axes: Axes, chart: Chart, names: list[str]) -> None:
    stacked = chart.kind == "stacked"
    values = [*totals(chart).values()] if stacked else numbers(chart, "y")
    reach = axis(values, chart.y_form, 0, 1, zero=True, about=7)
    tall = 0.8 if stacked else 0.8 / len(chart.series)
    written = style((point.y for series in chart.series for point in series.points), chart.y_form)
    reached = dict.fromkeys(names, 0.0)
    for i, series in enumerate(chart.series):
        known = [point for point in series.points if not math.isnan(point.y)]
        middle = 0.0 if stacked else (i + 0.5) * tall - 0.4
        places = [names.index(str(point.x)) + middle for point in known]
        starts = [reached[str(point.x)] for point in known]
        axes.barh(
            places,
            [point.y for point in known],
            tall * (1 if stacked else 0.86),
            left=starts,
            color=COLOURS[Look(i).colour],
            edgecolor="white" if stacked else "none",
            label=_label(series.name, i),
        )
        for place, point in zip(places, known, strict=True):
            if stacked:
                reached[str(point.x)] += point.y
                continue
            beyond = max(point.y, 0.0)
            if point.y_range and not any(map(math.isnan, point.y_range)):
                low, high = (min(max(end, reach.low), reach.high) for end in point.y_range)
                axes.plot([low, high], [place, place], color=_INK, linewidth=1, marker="|", markersize=4)
                beyond = max(beyond, high)
            text = written.number(point.y)
            axes.annotate(text, (beyond, place), (4, 0), textcoords="offset points", fontsize=8, va="center")
    axes.set_yticks(range(len(names)), [_plain(name if len(name) < 44 else f"{name[:43]}…") for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    _scale(axes, reach, chart.y_label, across=True)
    if chart.reference is not None:
        axes.axvline(chart.reference, color=_INK, linewidth=1, linestyle=(0, (4, 3)))


def _points(axes: Axes, chart: Chart) -> None:
    scatter = chart.kind == "scatter"
    names = categories(chart) if is_category(chart) else []
    up = axis(numbers(chart, "y"), chart.y_form, 0, 1, zero=from_zero(chart), about=6)
    _scale(axes, up, chart.y_label, across=False)
    for i, series in enumerate(chart.series):
        known = [point for point in series.points if not math.isnan(point.y)]
        _one(axes, [names.index(p.x) if isinstance(p.x, str) else p.x for p in known], known, i, series.name, scatter)
    if names:
        axes.set_xticks(range(len(names)), [_plain(name) for name in names])
    elif scatter:
        _scale(axes, axis(numbers(chart, "x"), chart.x_form, 0, 1, zero=False, about=7), chart.x_label, across=True)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=all(x.is_integer() for x in numbers(chart, "x"))))
    axes.set_xlabel(style(numbers(chart, "x"), chart.x_form).heading(_plain(chart.x_label)), color=_SOFT, fontsize=9)
    if chart.reference is not None:
        (axes.axvline if scatter else axes.axhline)(chart.reference, color=_INK, linewidth=1, linestyle=(0, (4, 3)))
    ahead = front(chart)
    if scatter and len(ahead) > 1:
        axes.step(*zip(*ahead, strict=True), where="pre", color=_INK, linewidth=1, zorder=1.5)
    if scatter:
        _names(axes, chart)


def _one(axes: Axes, xs: list[float], known: list[Point], place: int, name: str, scatter: bool) -> None:
    look = Look(place)
    colour, marker = COLOURS[look.colour], [*SHAPES[look.shape]] or "o"
    if not isinstance(marker, str):
        marker = [(x, -y) for x, y in [*marker, marker[0]]]  # on the page y grows downwards
    for x, point in zip(xs, known, strict=True):
        for between, across in ((point.y_range, False), (point.x_range, True)):
            if between and not any(map(math.isnan, between)):
                ends = ([*between], [point.y] * 2) if across else ([x, x], [*between])
                axes.plot(*ends, color=_SOFT, linewidth=0.7, zorder=1.8)
    if not scatter:
        dash = tuple(map(float, look.dash.split()))
        axes.plot(xs, [p.y for p in known], color=colour, linewidth=1.7, linestyle=(0, dash) if dash else "-")
    kept = [point.marked or not scatter for point in known]
    fills = [colour if whole else "white" for whole in kept]
    ys = [point.y for point in known]
    axes.scatter(xs, ys, 40, fills, marker=marker, edgecolors=colour, zorder=3)
    axes.scatter([], [], 40, colour, marker=marker, label=_label(name, place))  # the legend's, filled


def _names(axes: Axes, chart: Chart) -> None:
    """A column beside the axes, a line to each point of the front."""
    named = [point for series in chart.series for point in series.points if point.marked and point.label]
    named.sort(key=lambda point: (-point.y, str(point.x)))
    bottom, top = axes.get_ylim()
    heights = [(point.y - bottom) / (top - bottom) for point in named]
    for point, height in zip(named, spread(heights, _NAMED), strict=True):
        axes.annotate(
            _plain(point.label if len(point.label) < 36 else f"{point.label[:35]}…"),
            (float(point.x), point.y),
            xytext=(1.03, height),
            textcoords="axes fraction",
            fontsize=8,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": _SOFT, "relpos": (0, 0.5), "shrinkB": 4},
        )


def _scale(axes: Axes, reach: Axis, label: str, *, across: bool) -> None:
    along = axes.xaxis if across else axes.yaxis
    (axes.set_xlim if across else axes.set_ylim)(reach.low, reach.high)
    along.set_ticks(reach.ticks)
    along.set_major_formatter(FuncFormatter(lambda tick, _: reach.style.number(tick)))
    along.set_label_text(reach.style.heading(_plain(label)), color=_SOFT, fontsize=9)


def _label(name: str, place: int) -> str:
    """In the legend; what begins with an underscore would not be there."""
    text = _plain(name) or f"series {place + 1}"
    return f"\u200b{text}" if text.startswith("_") else text


def _plain(text: str) -> str:
    """Nothing in it that matplotlib would set as a formula."""
    return visible(text).replace("$", r"\$")
