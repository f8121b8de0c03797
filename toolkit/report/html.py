"""The page as one HTML file: style, script and drawings inside, nothing from elsewhere, hostile text shown as text.

Every text goes through `visible` and jinja's escaping; what the page may run and load its policy says, which allows
nothing but its own script and style, by their digests.
"""

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from toolkit import __version__
from toolkit.report import svg, svg_points, tables
from toolkit.report.grid import grid
from toolkit.report.page import Chart, Example, Page, Table
from toolkit.report.shown import visible

_FILES = Path(__file__).with_name("_page")
_BEGINS = 90  # letters of a folded prompt


@dataclass(frozen=True)
class _Asset:
    """A style sheet or a script, and what the page's policy knows it by."""

    text: Markup
    digest: str


def render(page: Page) -> str:
    template = _environment().get_template("page.html.j2")
    return template.render(page=page, style=_asset("style.css"), script=_asset("script.js"), version=__version__)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_FILES), autoescape=True, undefined=StrictUndefined, finalize=_seen, auto_reload=False
    )
    environment.globals |= {
        "grid": grid,
        "draw": _draw,
        "key": _key,
        "numbered": svg_points.numbered,
        "question": question,
        "csv_link": _csv_link,
        "kind_of": _kind,
    }
    return environment


def question(example: Example) -> tuple[int, str]:
    """How many letters its prompt has, and how the last of it begins: what a reader sees of a prompt that is folded."""
    said = " ".join(example.prompt[-1][1].split())
    return sum(len(text) for _, text in example.prompt), said if len(said) <= _BEGINS else f"{said[:_BEGINS]}…"


def _seen(value: object) -> object:
    """What the template writes: a text with nothing hidden in it; what is markup is ours."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _draw(chart: Chart) -> tuple[Markup, Markup]:
    wide, narrow = svg.draw(chart)
    return Markup(wide), Markup(narrow)


def _key(chart: Chart, place: int) -> Markup:
    return Markup(svg.key(chart, place))


def _csv_link(table: Table) -> str:
    """The file itself, so that the page can travel alone."""
    return "data:text/csv;charset=utf-8," + quote(tables.to_csv(table).encode("utf-8", "replace"))


def _kind(part: object) -> str:
    return type(part).__name__


@cache
def _asset(name: str) -> _Asset:
    text = (_FILES / name).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return _Asset(Markup(text), f"sha256-{digest}")
