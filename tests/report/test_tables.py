"""CSV for who goes on computing, and the grid that is for reading."""

import csv
import io
import math

import pytest

from tests.report import sample
from toolkit.evaluation.stats import ENDLESS, Interval
from toolkit.report import html, markdown
from toolkit.report.grid import grid
from toolkit.report.page import Column, Page, Section, Table
from toolkit.report.shown import style, visible
from toolkit.report.tables import to_csv


def read(table):
    text = to_csv(table)
    assert "\r" not in text
    return list(csv.DictReader(io.StringIO(text)))


def test_full_precision_and_an_interval_is_three_columns():
    columns = [Column("method", "m"), Column("speedup", "s", "ratio"), Column("exact", "e"), Column("n", "n", "count")]
    third = 1 / 3
    rows = [["a", Interval(third, 0.1, math.nan), True, 3], ['b,\n"c"', None, False, None], ["d", 2.5, None, 10**15]]
    one, two, three = read(Table("t", "T", columns, rows))
    assert list(one) == ["method", "speedup", "speedup_low", "speedup_high", "exact", "n"]
    assert float(one["speedup"]) == third and one["speedup_low"] == "0.1" and one["speedup_high"] == ""
    assert (one["exact"], two["exact"], three["exact"]) == ("true", "false", "")
    assert two["method"] == 'b,\n"c"' and (two["speedup"], two["speedup_low"], two["n"]) == ("", "", "")
    assert three["speedup"] == "2.5" and three["n"] == "1000000000000000"


def test_a_hostile_text_comes_back_as_it_was():
    table = next(part for part in sample.page().sections[3].parts if isinstance(part, Table))
    assert read(table)[0]["text"] == sample.HARMFUL


def column(form, values, best=None):
    drawn = grid(Table("t", "T", [Column("k", "figure", form, best)], [[value] for value in values]))
    return drawn.headings[0].title, [row[0] for row in drawn.rows]


@pytest.mark.parametrize(
    ("form", "values", "title", "texts"),
    [
        ("percent", [0.537, 0.1, None], "figure", ["53.7%", "10.0%", "–"]),
        ("points", [0.0334, -0.1, 0.0], "figure, pp", ["+3.3", "-10.0", "0.0"]),
        ("ratio", [1.4249, math.nan], "figure", ["1.42×", "–"]),
        ("number", [153.24, 88.0, 1.5], "figure", ["153.2", "88.0", "1.5"]),
        ("p", [0.0, 2e-5, 0.0348, 1.0], "figure", ["<0.001", "<0.001", "0.035", "1.000"]),
        ("number", [3.0, 12.0], "figure", ["3", "12"]),
        ("count", [12345], "figure", ["12,345"]),
        ("seconds", [0.1234, 0.25], "figure, s", ["0.123", "0.250"]),
        ("ms", [143.2, 1201.0], "figure, ms", ["143", "1,201"]),
        ("bytes", [3 * 2**29, 2**31], "figure, GiB", ["1.50", "2.00"]),
        ("number", [math.inf, -math.inf, 2.5], "figure", ["∞", "-∞", "2.50"]),
        ("text", ["a", True, False], "figure", ["a", "yes", "no"]),
    ],
)
def test_figures_of_a_column_are_written_alike(form, values, title, texts):
    heading, cells = column(form, values)
    assert heading == title
    assert [cell.text for cell in cells] == texts


def test_a_unit_that_the_title_names_is_not_said_twice():
    assert style([0.5], "ms").heading("first token (ms)") == "first token (ms)"
    assert style([0.5], "ms").heading("terms") == "terms, ms"


def test_bounds():
    _, cells = column("percent", [Interval(0.5, 0.4, 0.61), Interval(0.2, 0.1, ENDLESS), Interval(math.nan, 0, 1)])
    assert [(cell.text, cell.bounds) for cell in cells] == [("50.0%", "40.0, 61.0"), ("20.0%", "10.0, ∞"), ("–", "")]


@pytest.mark.parametrize(
    ("best", "values", "marked"),
    [
        ("high", [1.0, 2.0, None, 2.0, 0.5, 0.1], [1, 3]),
        ("high", [1.0, 2.0, None, 2.0], []),
        ("high", [1.0, 2.0], [1]),
        ("low", [Interval(3.0, 1.0, 4.0), Interval(2.0, 1.9, 9.0)], [1]),
        (None, [1.0, 2.0], []),
        ("high", [1.0, 1.0], []),
        ("high", [5.0, None, math.nan], []),
    ],
)
def test_the_best_is_marked_where_there_is_one(best, values, marked):
    _, cells = column("number", values, best)
    assert [i for i, cell in enumerate(cells) if cell.best] == marked


def test_cells_sort_as_their_figures_do():
    _, cells = column("number", [10.0, 9.5, Interval(1e-7, 0, 1), None, -2])
    assert [float(cell.order) for cell in cells if cell.order] == [10.0, 9.5, 1e-7, -2.0]
    assert [cell.order for cell in column("text", ["B", "a", True, None])[1]] == ["b", "a", "1", ""]


def test_visible_keeps_what_can_be_read():
    kept = "naïve 中文 עברית 👩‍🔬 a\u00a0b\n\tc"
    assert visible(kept) == kept
    assert visible("\r\u2028\U000e0041") == "␍⟨U+2028⟩⟨U+E0041⟩"


def test_a_column_without_an_entry_is_named_and_not_drawn():
    columns = [
        Column("method", "method"),
        Column("d", "D", "number"),
        Column("tau", "tau", "number", help="what tau is"),
    ]
    table = Table("t", "T", columns, [["a", None, 1.5], ["b", None, None]], ["a note"])
    drawn = grid(table)
    assert [heading.title for heading in drawn.headings] == ["method", "tau"]
    assert [[cell.text for cell in row] for row in drawn.rows] == [["a", "1.50"], ["b", "–"]]
    page = Page("T", "", [Section("s", "S", "", [table])])
    assert "<li>a note</li>\n<li>no entry in the columns: D</li>" in html.render(page)
    assert "- a note\n- no entry in the columns: D" in markdown.render(page)
    assert to_csv(table).startswith("method,d,tau\n"), "who computes finds every column"
    assert len(grid(Table("t", "T", columns, [])).headings) == 3
