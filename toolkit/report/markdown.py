"""The page as GitHub reads it: aligned tables, pictures beside the file, examples with what was rejected struck out."""

import html
import re
from itertools import groupby
from typing import assert_never

from toolkit.report.grid import Cell, Grid, grid
from toolkit.report.page import Chart, Example, Page, Section, Table, Text
from toolkit.report.shown import visible

_SPECIAL = re.compile(r"[\\`*\[\]<>|~&$]|(?<![^\W_])_|_(?![^\W_])")  # an underscore within a word is one
_TAG = {"accepted": "b", "rejected": "del"}


def render(page: Page) -> str:
    parts = [f"# {_line(page.title)}", _line(page.subtitle)]
    for section in page.sections:
        parts += _section(section)
    return "\n\n".join(part for part in parts if part) + "\n"


def _section(section: Section) -> list[str]:
    parts = [f"## {_line(section.title)}", _paragraphs(section.intro)]
    drawn = ""  # title of the chart that the part stands below
    for part in section.parts:
        match part:
            case Table():
                heading = [] if part.title == drawn else [f"### {_line(part.title)}"]
                drawn_as = grid(part)
                parts += [*heading, _table(drawn_as), _notes([*part.notes, *drawn_as.notes])]
            case Chart():
                shown = f"![{_line(part.title)}](charts/{part.name}.png)"
                parts += [f"### {_line(part.title)}", shown, _notes(part.notes)]
            case Text():
                parts.append(f"> **Warning.** {_line(part.text)}" if part.warning else _paragraphs(part.text))
            case Example():
                parts.append(_example(part))
            case _:
                assert_never(part)
        drawn = part.title if isinstance(part, Chart) else ""
    return parts


def _table(drawn: Grid) -> str:
    if not drawn.rows:
        return "No rows."
    right = [heading.numeric for heading in drawn.headings]
    lines = [
        [_line(heading.title) for heading in drawn.headings],
        *([_cell(cell) for cell in row] for row in drawn.rows),
    ]
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(right))]
    rule = ["-" * (width - numeric) + ":" * numeric for width, numeric in zip(widths, right, strict=True)]
    return "\n".join(
        "| "
        + " | ".join(
            text.rjust(width) if numeric else text.ljust(width)
            for text, width, numeric in zip(line, widths, right, strict=True)
        )
        + " |"
        for line in (lines[0], rule, *lines[1:])
    )


def _cell(cell: Cell) -> str:
    text = _line(cell.text) + (f" [{cell.bounds}]" if cell.bounds else "")
    return f"**{text}**" if cell.best and text else text


def _notes(notes: list[str]) -> str:
    return "\n".join(f"- {_line(note)}" for note in notes)


def _paragraphs(text: str) -> str:
    return "\n\n".join(_line(part) for part in text.split("\n\n") if part.strip())


def _example(example: Example) -> str:
    """Folded. Bold: the draft's, accepted; struck out: rejected; plain: the target's own."""
    facts = " · ".join(f"{_html(name)} {_html(value)}" for name, value in example.facts)
    said = [f"<i>{_html(who)}: {_html(text)}</i>\n\n" for who, text in example.prompt]
    for kind, spans in groupby(example.spans, key=lambda span: span.kind):
        text = _html("".join(span.text for span in spans))
        if kind == "prompt":
            text = f"<i>{text}</i>\n\n"
        elif kind in _TAG:
            text = f"<{_TAG[kind]}>{text}</{_TAG[kind]}>"
        said.append(text)
    head = f"<details>\n<summary>{_html(example.title)}: {_html(example.method)}</summary>\n\n"
    return f"{head}{facts}\n\n<pre>{''.join(said)}</pre>\n\n</details>"


def _html(text: str) -> str:
    return html.escape(visible(text))


def _line(text: str) -> str:
    """On one line, with nothing in it that Markdown or HTML would take for its own."""
    return _SPECIAL.sub(lambda found: f"\\{found.group()}", visible(" ".join(text.split())))
