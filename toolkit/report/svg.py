"""A chart as SVG in two widths, for a desk and for a phone: text keeps its size, the drawing takes what is left."""

from toolkit.report import svg_bars, svg_points
from toolkit.report.page import Chart
from toolkit.report.palette import SHAPES, Look
from toolkit.report.pen import Pen

WIDE, NARROW = 860, 356  # pixels


def draw(chart: Chart) -> tuple[str, str]:
    """For wide and for narrow screens."""
    drawer = svg_bars.draw if chart.kind in ("bars", "stacked") else svg_points.draw
    return drawer(chart, WIDE, wide=True), drawer(chart, NARROW, wide=False)


def key(chart: Chart, place: int) -> str:
    """The sign of a series in the legend."""
    look, pen = Look(place), Pen(26, 14, "key", chart.series[place].name)
    pen.root.attrib.pop("role")
    pen.root.attrib.pop("aria-label")
    pen.root.set("aria-hidden", "true")  # its name stands beside it
    if chart.kind in ("bars", "stacked"):
        pen.box(6, 1, 14, 12, f"bar c{look.colour}", "")
        return pen.svg()
    if chart.kind == "lines":
        pen.path([(1, 7), (25, 7)], f"line c{look.colour}", dash=look.dash)
    pen.mark((13, 7), look, f"mark c{look.colour}", "", 4.0 if SHAPES[look.shape] else 4.5)
    return pen.svg()
