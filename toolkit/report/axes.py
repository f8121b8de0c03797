"""What a chart's axes cover: the data with their intervals, round ticks, categories in the order they came in."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from toolkit.evaluation.stats import ENDLESS
from toolkit.report.page import Chart, Form, Point
from toolkit.report.shown import Style, style

_ROUND = (1, 2, 2.5, 5, 10)
_MARGIN = 0.04  # of the range, around marks that would be cut in half


@dataclass(frozen=True)
class Axis:
    """A range of values, drawn from `start` to `end` (pixels; the other way up where start is beyond end)."""

    low: float
    high: float
    start: float
    end: float
    ticks: list[float]
    style: Style

    def at(self, value: float) -> float:
        """Where a value is drawn; what is beyond the range, at its end."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def axis(values: Iterable[float], form: Form, start: float, end: float, *, zero: bool, about: int) -> Axis:
    """Over all of them. `zero`: from there, to round numbers; else with a margin. `about`: ticks there is room for."""
    known = [value for value in values if math.isfinite(value) and abs(value) < ENDLESS] or [0.0, 1.0]
    low, high = min(known), max(known)
    low, high = (min(low, 0.0), max(high, 0.0)) if zero else (low, high)
    if low == high:
        low, high = (low, 1.0) if zero else (low - 0.5, high + 0.5)
    step = _step((high - low) / about)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [round(i * step, 12) for i in range(first, last + 1)]
    how = _tick_style(ticks, step, form)
    if zero:
        return Axis(ticks[0], ticks[-1], start, end, ticks, how)
    low, high = low - _MARGIN * (high - low), high + _MARGIN * (high - low)
    return Axis(low, high, start, end, [tick for tick in ticks if low <= tick <= high], how)


def numbers(chart: Chart, along: str) -> list[float]:
    """All that an axis (`x` or `y`) has to cover: points, their intervals, the reference."""
    found = [number for series in chart.series for point in series.points for number in _of(point, along)]
    # a level line is of y; in a scatter it stands upright, as what x is compared with
    if chart.reference is not None and (along == "x") == (chart.kind == "scatter"):
        found.append(chart.reference)
    return [number for number in found if not math.isnan(number)]


def categories(chart: Chart) -> list[str]:
    return list(dict.fromkeys(str(point.x) for series in chart.series for point in series.points))


def is_category(chart: Chart) -> bool:
    return any(isinstance(point.x, str) for series in chart.series for point in series.points)


def from_zero(chart: Chart) -> bool:
    """Lines are read from zero, but for ratios; what lies close together, as two accuracies may, needs all the room."""
    return chart.kind == "lines" and chart.y_form != "ratio"


def front(chart: Chart) -> list[tuple[float, float]]:
    """Marked points from left to right."""
    marked = [point for series in chart.series for point in series.points if point.marked]
    return sorted((float(point.x), point.y) for point in marked)


def totals(chart: Chart) -> dict[str, float]:
    """Of a stacked chart, by category."""
    found = dict.fromkeys(categories(chart), 0.0)
    for series in chart.series:
        for point in series.points:
            found[str(point.x)] += 0.0 if math.isnan(point.y) else point.y
    return found


def _of(point: Point, along: str) -> Sequence[float]:
    value, between = (point.x, point.x_range) if along == "x" else (point.y, point.y_range)
    return [float(number) for number in (value, *(between or ())) if not isinstance(number, str)]


def _step(least: float) -> float:
    """The next round number from `least` on."""
    size = 10.0 ** math.floor(math.log10(least))
    return next(size * factor for factor in _ROUND if size * factor >= least * (1 - 1e-9))


def _tick_style(ticks: list[float], step: float, form: Form) -> Style:
    """As many digits as tell two ticks apart."""
    usual = style(ticks, form)
    moved = step * usual.factor
    digits = next((n for n in range(5) if abs(moved * 10**n - round(moved * 10**n)) < 1e-6 * 10**n * moved + 1e-9), 4)
    return Style(digits, usual.factor, usual.suffix, usual.unit)
