"""Drawing in SVG: shapes by class, coloured by the page's style sheet, so that one drawing serves light and dark."""

import math
from collections.abc import Sequence
from xml.etree import ElementTree

from toolkit.report.palette import SHAPES, Look
from toolkit.report.shown import visible

Spot = tuple[float, float]
_WIDE, _NARROW = 7.0, 3.6  # pixels of a letter at 12 px


class Pen:
    def __init__(self, width: float, height: float, kind: str, description: str) -> None:
        """`kind`: class of the whole; `description`: what who does not see it is told."""
        size = {"viewBox": f"0 0 {width:g} {height:g}", "width": f"{width:g}", "height": f"{height:g}"}
        self.root = ElementTree.Element(
            "svg", {**size, "class": kind, "role": "img", "aria-label": visible(description)}
        )
        self.into = self.root

    def group(self, kind: str, series: int | None = None) -> None:
        """What is drawn from here on belongs together."""
        place = {} if series is None else {"data-series": str(series)}
        self.into = ElementTree.SubElement(self.root, "g", {"class": kind, **place})

    def line(self, start: Spot, end: Spot, kind: str) -> None:
        self.path([start, end], kind)

    def path(self, spots: Sequence[Spot], kind: str, *, closed: bool = False, dash: str = "") -> ElementTree.Element:
        way = "M" + "L".join(f"{_at(x)} {_at(y)}" for x, y in spots) + "Z" * closed
        dashes = {"stroke-dasharray": dash} if dash else {}
        return ElementTree.SubElement(self.into, "path", {"d": way, "class": kind, **dashes})

    def box(self, x: float, y: float, width: float, height: float, kind: str, tip: str) -> None:
        place = {"x": _at(x), "y": _at(y), "width": _at(max(width, 0.0)), "height": _at(height), "class": kind}
        self._tip(ElementTree.SubElement(self.into, "rect", place), tip)

    def mark(self, spot: Spot, look: Look, kind: str, tip: str, radius: float = 4.5) -> None:
        x, y = spot
        corners = SHAPES[look.shape]
        if corners:
            shape = self.path([(x + radius * dx, y + radius * dy) for dx, dy in corners], kind, closed=True)
        else:
            place = {"cx": _at(x), "cy": _at(y), "r": _at(radius), "class": kind}
            shape = ElementTree.SubElement(self.into, "circle", place)
        self._tip(shape, tip)

    def text(self, spot: Spot, text: str, kind: str, anchor: str = "start", room: float = math.inf) -> None:
        """`room`: pixels; what is longer is cut, and whole in its tip."""
        x, y = spot
        text = visible(text)
        shown = fitted(text, room)
        written = ElementTree.SubElement(
            self.into, "text", {"x": _at(x), "y": _at(y), "class": kind, "text-anchor": anchor}
        )
        written.text = shown
        if shown != text:
            self._tip(written, text)

    def upright(self, spot: Spot, text: str, kind: str) -> None:
        """Read from below, its middle at the spot."""
        self.text(spot, text, kind, "middle")
        self.into[-1].set("transform", f"rotate(-90 {_at(spot[0])} {_at(spot[1])})")

    def svg(self) -> str:
        return ElementTree.tostring(self.root, encoding="unicode")

    def _tip(self, element: ElementTree.Element, tip: str) -> None:
        if tip:
            ElementTree.SubElement(element, "title").text = visible(tip)


def length(text: str) -> float:
    """About how many pixels it takes."""
    return sum(_NARROW if letter in "iljtf.,:;|!'()[] " else _WIDE for letter in text)


def fitted(text: str, room: float) -> str:
    """As much of it as there is room for: its beginning and its end, where names differ."""
    if length(text) <= room:
        return text
    keep = max(4, int(len(text) * room / length(text)) - 1)
    return f"{text[: keep - keep // 2]}…{text[len(text) - keep // 2 :]}"


def _at(place: float) -> str:
    return f"{place:.1f}".removesuffix(".0")
