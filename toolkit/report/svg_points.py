"""Lines and scatter plots: whole axes, intervals, and in a scatter the front with its points named."""

import math

from toolkit.evaluation.pareto_plot import spread
from toolkit.report.axes import Axis, axis, categories, from_zero, front, is_category, numbers
from toolkit.report.describe import describe, tip
from toolkit.report.page import Chart, Point
from toolkit.report.palette import Look
from toolkit.report.pen import Pen, Spot, fitted, length
from toolkit.report.shown import Style, style

_TOP, _BOTTOM, _LEFT = 14, 50, 66  # pixels
_LETTERS = 200  # pixels for names beside a scatter
_APART = 16  # between two names


def draw(chart: Chart, width: int, *, wide: bool) -> str:
    scatter = chart.kind == "scatter"
    height = (440 if wide else 340) if scatter else (360 if wide else 290)
    named = _named(chart) if scatter else []
    right = width - (_LETTERS if named and wide else 16)
    bottom = height - _BOTTOM
    across = _across(chart, _LEFT, right, about=7 if wide else 4)
    up = axis(numbers(chart, "y"), chart.y_form, bottom, _TOP, zero=from_zero(chart), about=6)
    pen = Pen(width, height, f"chart {'wide' if wide else 'narrow'}", describe(chart))
    _frame(pen, chart, across, up, width)
    if scatter:
        _scatter(pen, chart, across, up)
        _beside(pen, named, across, up) if wide else _numbered(pen, named, across, up)
        if wide:
            _below(pen, chart, across, up)
    else:
        _lines(pen, chart, across, up)
    return pen.svg()


def numbered(chart: Chart) -> list[str]:
    """What the numbers in a narrow scatter stand for."""
    return [point.label for point in _named(chart)] if chart.kind == "scatter" else []


def _named(chart: Chart) -> list[Point]:
    """Points of the front that have a name, from the highest down."""
    points = [point for series in chart.series for point in series.points if point.marked and point.label]
    return sorted(points, key=lambda point: (-point.y, str(point.x)))


def _across(chart: Chart, start: float, end: float, about: int) -> Axis:
    """Categories stand at 0, 1, 2 ...; whole numbers have ticks at whole numbers."""
    if is_category(chart):
        n = len(categories(chart))
        return Axis(-0.4, n - 0.6, start, end, [float(i) for i in range(n)], Style(0))
    values = numbers(chart, "x")
    if chart.kind == "lines" and values and all(value.is_integer() for value in values):
        low, high = min(values), max(values)
        each = math.ceil((high - low + 1) / (2 * about))
        ticks = [low + i * each for i in range(int((high - low) // each) + 1)]
        return Axis(low - 0.3, high + 0.3, start, end, ticks, style(ticks, chart.x_form))
    return axis(values, chart.x_form, start, end, zero=False, about=about)


def _frame(pen: Pen, chart: Chart, across: Axis, up: Axis, width: float) -> None:
    pen.group("frame")
    for tick in up.ticks:
        pen.line((across.start, up.at(tick)), (across.end, up.at(tick)), "grid")
        pen.text((across.start - 7, up.at(tick) + 4), up.style.number(tick), "tick", "end")
    pen.line((across.start, up.start), (across.end, up.start), "zero")
    names = categories(chart) if is_category(chart) else [across.style.number(tick) for tick in across.ticks]
    room = (across.end - across.start) / max(1, len(names))
    for tick, name in zip(across.ticks, names, strict=True):
        if chart.kind == "scatter":
            pen.line((across.at(tick), up.start), (across.at(tick), up.end), "grid")
        pen.text((across.at(tick), up.start + 18), name, "tick", "middle", room=max(room, 30))
    middle = (across.start + across.end) / 2
    pen.text((middle, up.start + 40), across.style.heading(chart.x_label), "label", "middle", room=width - 10)
    tall = up.start - up.end
    pen.upright((11, up.end + tall / 2), fitted(up.style.heading(chart.y_label), tall + 20), "label")
    if chart.reference is not None:
        if chart.kind == "scatter":
            pen.line((across.at(chart.reference), up.start), (across.at(chart.reference), up.end), "reference")
        else:
            pen.line((across.start, up.at(chart.reference)), (across.end, up.at(chart.reference)), "reference")


def _lines(pen: Pen, chart: Chart, across: Axis, up: Axis) -> None:
    places = {name: i for i, name in enumerate(categories(chart))} if is_category(chart) else {}
    for i, series in enumerate(chart.series):
        look = Look(i)
        known = [point for point in series.points if not math.isnan(point.y)]
        spots = [(across.at(places[p.x] if isinstance(p.x, str) else p.x), up.at(p.y)) for p in known]
        pen.group("series", i)
        for (x, _), point in zip(spots, known, strict=True):
            _whisker(pen, point.y_range, up, x)
        if len(spots) > 1:
            pen.path(spots, f"line c{look.colour}", dash=look.dash)
        for spot, point in zip(spots, known, strict=True):
            pen.mark(spot, look, f"mark c{look.colour}", tip(chart, series.name, point), 3.8)


def _scatter(pen: Pen, chart: Chart, across: Axis, up: Axis) -> None:
    ahead = front(chart)
    if len(ahead) > 1:
        pen.group("front")
        steps = [ahead[0]]
        for x, y in ahead[1:]:
            steps += [(steps[-1][0], y), (x, y)]  # between two of them only the one farther right is that good
        pen.path([(across.at(x), up.at(y)) for x, y in steps], "front-line")
    for i, series in enumerate(chart.series):
        look = Look(i)
        pen.group("series", i)
        for point in series.points:
            if math.isnan(point.y) or math.isnan(float(point.x)):
                continue
            x, y = _spot(point, across, up)
            _whisker(pen, point.y_range, up, x)
            if point.x_range and not any(map(math.isnan, point.x_range)):
                pen.line((across.at(point.x_range[0]), y), (across.at(point.x_range[1]), y), "thin")
            kind = f"mark c{look.colour}" if point.marked else f"mark hollow c{look.colour}"
            pen.mark((x, y), look, kind, tip(chart, series.name, point), 5)


def _whisker(pen: Pen, between: tuple[float, float] | None, up: Axis, x: float) -> None:
    if between and not any(map(math.isnan, between)):
        pen.line((x, up.at(between[0])), (x, up.at(between[1])), "thin")


def _beside(pen: Pen, named: list[Point], across: Axis, up: Axis) -> None:
    """Points may lie close, names may not: a column of names, a line to each point."""
    tall = up.start - up.end
    heights = [(up.start - up.at(point.y)) / tall for point in named]
    pen.group("beside")
    for point, height in zip(named, spread(heights, _APART / tall), strict=True):
        at = (across.end + 16, up.start - height * tall)
        pen.line(_spot(point, across, up), (at[0] - 3, at[1]), "leader")
        pen.text((at[0], at[1] + 4), point.label, "name", room=_LETTERS - 20)


def _below(pen: Pen, chart: Chart, across: Axis, up: Axis) -> None:
    """Names of the other points, where there is room: above, below, a line farther away."""
    points = [point for series in chart.series for point in series.points]
    taken = [(x - 8, x + 8, y - 6, y + 6) for x, y in (_spot(point, across, up) for point in points)]
    for point in points:
        if point.marked or not point.label:
            continue
        x, y = _spot(point, across, up)
        half = length(point.label) / 2
        middle = min(max(x, across.start + half), across.end - half)
        for away in (-12, 20, -27, 35, -42, 50):
            box = (middle - half, middle + half, y + away - 11, y + away + 3)
            if up.end < box[2] and box[3] < up.start and not any(_meet(box, other) for other in taken):
                taken.append(box)
                pen.text((middle, y + away), point.label, "haloed", "middle")
                break


def _meet(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Two boxes (left, right, top, bottom)."""
    return one[0] < other[1] and other[0] < one[1] and one[2] < other[3] and other[2] < one[3]


def _numbered(pen: Pen, named: list[Point], across: Axis, up: Axis) -> None:
    pen.group("beside")
    taken: list[Spot] = []
    for i, point in enumerate(named, start=1):
        x, y = _spot(point, across, up)
        free = [(x + 7, y - 6), (x - 7 - length(str(i)), y - 6), (x + 7, y + 13), (x - 7 - length(str(i)), y + 13)]
        at = next((one for one in free if all(abs(one[0] - x) > 12 or abs(one[1] - y) > 11 for x, y in taken)), free[0])
        taken.append(at)
        pen.text(at, str(i), "number")


def _spot(point: Point, across: Axis, up: Axis) -> Spot:
    return across.at(float(point.x)), up.at(point.y)
