"""Values as text: rounded for reading, never computed; and text that models wrote, with nothing hidden in it."""

import math
import statistics
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from toolkit.evaluation.stats import ENDLESS, Interval
from toolkit.export.figures import NONE
from toolkit.report.page import Form, Value

_BYTES = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10), ("B", 1))
_KEPT = "\n\t\u200c\u200d"  # the last two join letters and emoji


@dataclass(frozen=True)
class Style:
    """How the figures of a column or an axis are written: all alike, so that they can be compared at a glance."""

    digits: int
    factor: float = 1.0
    suffix: str = ""  # at every figure
    unit: str = ""  # once, in the heading
    signed: bool = False  # + before what is above 0
    least: float = 0.0  # of what is nearer to 0 only that is said

    def number(self, value: float | None) -> str:
        if value is None or math.isnan(value):
            return NONE
        if abs(value) >= ENDLESS:
            return "∞" if value > 0 else "-∞"
        if 0 <= value < self.least:
            return f"<{self.least:g}"
        sign = "+" if self.signed and value > 0 else ""
        return f"{sign}{value * self.factor:,.{self.digits}f}{self.suffix}"

    def bounds(self, interval: Interval) -> str:
        """`1.31, 1.52`: without the suffix, which the value has."""
        bare = Style(self.digits, self.factor, signed=self.signed)
        return f"{bare.number(interval.low)}, {bare.number(interval.high)}"

    def heading(self, title: str) -> str:
        """The title with the unit, where it does not name it itself."""
        words = title.replace("(", " ").replace(")", " ").replace("/", " ").replace(",", " ").split()
        return f"{title}, {self.unit}" if self.unit and self.unit not in words else title


def style(values: Iterable[Value], form: Form) -> Style:
    """One style for all the values of a column or an axis."""
    sizes = [abs(size) for size in map(plain, values) if size is not None and math.isfinite(size) and size]
    middle = statistics.median(sizes) if sizes else 1.0
    match form:
        case "count" | "text":
            return Style(0)
        case "percent":
            return Style(1, 100, "%")
        case "points":
            return Style(1, 100, unit="pp", signed=True)
        case "p":
            return Style(3, least=0.001)
        case "ratio":
            return Style(2, suffix="×")
        case "seconds":
            return Style(_digits(middle), unit="s")
        case "ms":
            return Style(_digits(middle), unit="ms")
        case "bytes":
            unit, size = next(((unit, size) for unit, size in _BYTES if middle >= size), _BYTES[-1])
            return Style(_digits(middle / size) if size > 1 else 0, 1 / size, unit=unit)
        case "number":
            return Style(0 if all(size.is_integer() for size in sizes) else _digits(middle))


def plain(value: Value) -> float | None:
    """The figure in a value, to sort by; None where there is none."""
    if isinstance(value, Interval):
        value = value.value
    if isinstance(value, str) or value is None or math.isnan(value):
        return None
    return float(value)


def visible(text: str) -> str:
    """What a browser or a terminal would obey or hide (controls, marks of direction, blanks of no width) as signs."""
    return text if text.isprintable() else "".join(map(_sign, text))


def _sign(letter: str) -> str:
    code = ord(letter)
    if letter in _KEPT or unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return letter
    if code < 0x20 or code == 0x7F:
        return chr(0x2421 if code == 0x7F else 0x2400 + code)  # the pictures that Unicode has of these
    return f"⟨U+{code:04X}⟩"


def _digits(size: float) -> int:
    """Three figures of the size that is usual, and never more than four behind the point."""
    return max(0, min(4, 2 - math.floor(math.log10(size)))) if size > 0 else 2
