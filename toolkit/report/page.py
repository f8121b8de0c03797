"""What a report says, before anybody draws it: sections of tables, charts, texts and examples.

`toolkit.report.content` fills it from finished runs; html, markdown, tables (CSV) and charts (PNG, PDF) write it.
"""

from dataclasses import dataclass, field
from typing import Literal

from toolkit.evaluation.stats import Interval

Value = str | int | float | bool | Interval | None
Form = Literal["text", "count", "number", "percent", "points", "p", "ratio", "seconds", "ms", "bytes"]
Kind = Literal["bars", "lines", "scatter", "stacked"]
SpanKind = Literal["prompt", "target", "accepted", "rejected"]


@dataclass(frozen=True)
class Column:
    key: str  # header in the CSV, with its unit, as `first_token_ms`; an Interval becomes key, key_low, key_high
    title: str
    form: Form = "text"  # points: of percentages, as a difference of two accuracies
    best: Literal["high", "low"] | None = None  # which end of the column is marked
    help: str = ""  # what the figure is, in a line


@dataclass(frozen=True)
class Table:
    name: str  # stem of its CSV
    title: str
    columns: list[Column]
    rows: list[list[Value]]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Point:
    x: float | str  # str: a category
    y: float
    label: str = ""
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    marked: bool = False  # as on the front, not dominated


@dataclass(frozen=True)
class Series:
    name: str
    points: list[Point]


@dataclass(frozen=True)
class Chart:
    name: str  # stem of its PNG and PDF
    title: str
    kind: Kind
    x_label: str
    y_label: str
    series: list[Series]
    reference: float | None = None  # a level line, as 1.0 of a speedup
    notes: list[str] = field(default_factory=list)
    x_form: Form = "number"  # how the axes' numbers are written
    y_form: Form = "number"


@dataclass(frozen=True)
class Text:
    text: str  # a paragraph
    warning: bool = False


@dataclass(frozen=True)
class Span:
    text: str
    kind: SpanKind


@dataclass(frozen=True)
class Example:
    """A generation: accepted tokens, those that the target wrote itself, and those that it rejected, in order."""

    title: str  # task and prompt id
    method: str
    spans: list[Span]
    facts: list[tuple[str, str]]  # as ("tau", "2.31")
    prompt: list[tuple[str, str]] = field(default_factory=list)  # who says what; [] where it is not known


@dataclass(frozen=True)
class Section:
    id: str
    title: str
    intro: str
    parts: list[Table | Chart | Text | Example]


@dataclass(frozen=True)
class Page:
    title: str
    subtitle: str
    sections: list[Section]
