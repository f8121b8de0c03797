"""A table ready to be drawn: headings with units, figures rounded alike in a column, the best of it marked.

A column in which nothing is known is not drawn, but named below the table; the CSV has it.
"""

from dataclasses import dataclass

from toolkit.evaluation.stats import Interval
from toolkit.export.figures import NONE
from toolkit.report.page import Column, Table, Value
from toolkit.report.shown import Style, plain, style


@dataclass(frozen=True)
class Cell:
    text: str
    bounds: str = ""  # of an interval, as "1.31, 1.52"
    best: bool = False
    order: str = ""  # to sort by: a number, or the text; empty comes last


@dataclass(frozen=True)
class Heading:
    title: str
    numeric: bool  # sorted and aligned as numbers
    help: str


@dataclass(frozen=True)
class Grid:
    headings: list[Heading]
    rows: list[list[Cell]]
    empty: list[str]  # titles of the columns that are not drawn

    @property
    def marks(self) -> bool:
        """Whether anything is marked as the best."""
        return any(cell.best for row in self.rows for cell in row)

    @property
    def notes(self) -> list[str]:
        return [f"no entry in the columns: {', '.join(self.empty)}"] if self.empty else []

    @property
    def helps(self) -> list[Heading]:
        return [heading for heading in self.headings if heading.help]


def grid(table: Table) -> Grid:
    columns = [(column, [row[i] for row in table.rows]) for i, column in enumerate(table.columns)]
    empty = [i for i, (_, values) in enumerate(columns) if i and values and all(value is None for value in values)]
    shown = [(*columns[i], style(columns[i][1], columns[i][0].form)) for i in range(len(columns)) if i not in empty]
    headings = [Heading(how.heading(column.title), column.form != "text", column.help) for column, _, how in shown]
    drawn = [_cells(*each) for each in shown]
    rows = [[cells[i] for cells in drawn] for i in range(len(table.rows))]
    return Grid(headings, rows, [columns[i][0].title for i in empty])


def _cells(column: Column, values: list[Value], how: Style) -> list[Cell]:
    best = _best(column, values)
    return [_cell(value, how, best is not None and plain(value) == best) for value in values]


def _best(column: Column, values: list[Value]) -> float | None:
    """The figure at the end of the column that is wanted; None where half or more have it: that tells nobody apart."""
    figures = [figure for value in values if (figure := plain(value)) is not None]
    if column.best is None or not figures:
        return None
    best = max(figures) if column.best == "high" else min(figures)
    return best if 2 * figures.count(best) < len(figures) or figures.count(best) == 1 < len(figures) else None


def _cell(value: Value, how: Style, best: bool) -> Cell:
    if value is None:
        return Cell(NONE)
    if isinstance(value, bool):
        return Cell("yes" if value else "no", order=str(int(value)))
    if isinstance(value, str):
        return Cell(value, order=value.casefold())
    figure = plain(value)
    bounds = how.bounds(value) if isinstance(value, Interval) and figure is not None else ""
    return Cell(how.number(figure), bounds, best, "" if figure is None else repr(figure))
