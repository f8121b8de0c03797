"""Bars that lie, so that names can be read: a group of bars a category, or one bar of parts."""

import math
from collections.abc import Iterable

from toolkit.report.axes import Axis, axis, categories, numbers, totals
from toolkit.report.describe import describe, tip
from toolkit.report.page import Chart, Point
from toolkit.report.palette import Look
from toolkit.report.pen import Pen, length
from toolkit.report.shown import style

_GAP, _NAME = 12, 18  # pixels between groups; of a name that stands above its bars
_TOP, _BOTTOM = 20, 46


def draw(chart: Chart, width: int, *, wide: bool) -> str:
    names = categories(chart)
    stacked = chart.kind == "stacked"
    bars = 1 if stacked else len(chart.series)
    thick = 18 if bars == 1 else 14
    above = 0 if wide else _NAME
    group = above + bars * thick + _GAP
    left = min(250.0, 14 + max(map(length, names), default=0)) if wide else 4.0
    height = _TOP + group * len(names) + _BOTTOM
    values = [*totals(chart).values()] if stacked else numbers(chart, "y")
    right = 14 if stacked else 58
    across = axis(values, chart.y_form, left, width - right, zero=True, about=6 if wide else 4)
    pen = Pen(width, height, f"chart {'wide' if wide else 'narrow'}", describe(chart))
    _frame(pen, chart, across, height, width)
    tops = {name: _TOP + i * group + _GAP / 2 for i, name in enumerate(names)}
    tops = {name: top + above for name, top in tops.items()}
    _parts(pen, chart, across, tops, thick) if stacked else _bars(pen, chart, across, tops, thick)
    if chart.reference is not None:
        x = across.at(chart.reference)
        pen.group("frame")
        pen.line((x, _TOP - 6), (x, height - _BOTTOM), "reference")
        pen.text((x, _TOP - 9), style([chart.reference], chart.y_form).number(chart.reference), "tick", "middle")
    pen.group("names")
    for name, top in tops.items():
        if wide:
            pen.text((left - 8, top + bars * thick / 2 + 4), name, "name", "end", room=left - 10)
        else:
            pen.text((left, top - 6), name, "name haloed", room=width - 10)
    return pen.svg()


def _frame(pen: Pen, chart: Chart, across: Axis, height: float, width: float) -> None:
    bottom = height - _BOTTOM
    pen.group("frame")
    for tick in across.ticks:
        pen.line((across.at(tick), _TOP - 4), (across.at(tick), bottom), "zero" if tick == 0 else "grid")
        pen.text((across.at(tick), bottom + 16), across.style.number(tick), "tick", "middle")
    pen.text((across.start, height - 8), across.style.heading(chart.y_label), "label", room=width - across.start)


def _bars(pen: Pen, chart: Chart, across: Axis, tops: dict[str, float], thick: float) -> None:
    written = style((point.y for series in chart.series for point in series.points), chart.y_form)
    for i, series in enumerate(chart.series):
        pen.group("series", i)
        for point in _known(series.points):
            top = tops[str(point.x)] + i * thick
            ends = sorted((across.at(0), across.at(point.y)))
            tall = thick - 2
            tells = tip(chart, series.name, point)
            pen.box(ends[0], top + 1, ends[1] - ends[0], tall, f"bar c{Look(i).colour}", tells)
            beyond = ends[1]
            if point.y_range and not any(map(math.isnan, point.y_range)):
                low, high = (across.at(end) for end in point.y_range)
                middle, cap = top + thick / 2, min(4, tall / 3)
                pen.line((low, middle), (high, middle), "whisker")
                for end in (low, high):
                    pen.line((end, middle - cap), (end, middle + cap), "whisker")
                beyond = max(beyond, high)
            pen.text((beyond + 5, top + thick / 2 + 4), written.number(point.y), "value")


def _parts(pen: Pen, chart: Chart, across: Axis, tops: dict[str, float], thick: float) -> None:
    reached = dict.fromkeys(tops, 0.0)
    for i, series in enumerate(chart.series):
        pen.group("series", i)
        for point in _known(series.points):
            name = str(point.x)
            start, end = across.at(reached[name]), across.at(reached[name] + point.y)
            reached[name] += point.y
            tells = tip(chart, series.name, point)
            pen.box(start, tops[name], end - start, thick, f"bar part c{Look(i).colour}", tells)


def _known(points: Iterable[Point]) -> list[Point]:
    return [point for point in points if not math.isnan(point.y)]
