"""A chart and its points in words: for who does not see it, and for who points at one."""

import math

from toolkit.evaluation.stats import Interval
from toolkit.report.page import Chart, Form, Point
from toolkit.report.shown import style

_KINDS = {"bars": "Bar chart", "stacked": "Stacked bar chart", "lines": "Line chart", "scatter": "Scatter plot"}


def describe(chart: Chart) -> str:
    """The figures themselves are in the tables."""
    names = ", ".join(series.name for series in chart.series if series.name)
    of = f" Series: {names}." if names else ""
    return f"{_KINDS[chart.kind]}: {chart.title}. {chart.y_label}, by {chart.x_label}.{of}"


def tip(chart: Chart, series: str, point: Point) -> str:
    """`ngram, gsm8k: 1.42× [1.31, 1.52]`."""
    x = point.x if isinstance(point.x, str) else _figure(chart.x_label, point.x, point.x_range, chart.x_form)
    named = ", ".join(dict.fromkeys(text for text in (series, point.label) if text))
    return f"{named}\n{x}\n{_figure(chart.y_label, point.y, point.y_range, chart.y_form)}".strip()


def _figure(label: str, value: float, between: tuple[float, float] | None, form: Form) -> str:
    how = style([value], form)
    bounds = ""
    if between is not None and not any(map(math.isnan, between)):
        bounds = f" [{how.bounds(Interval(value, *between))}]"
    return f"{how.heading(label)}: {how.number(value)}{bounds}"
