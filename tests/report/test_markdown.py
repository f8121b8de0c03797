"""Markdown as GitHub reads it."""

import re

from tests.report import sample
from toolkit.evaluation.stats import Interval
from toolkit.report import markdown
from toolkit.report.page import Chart, Column, Example, Page, Section, Series, Span, Table, Text

TEXT = markdown.render(sample.page())


def of(*parts):
    return markdown.render(Page("T", "", [Section("s", "S", "", list(parts))]))


def test_a_table_is_aligned_and_its_best_is_bold():
    columns = [Column("m", "method"), Column("s", "speedup", "ratio", "high")]
    rows = [["baseline", 1.0], ["a_b|c", Interval(1.5, 1.25, 1.75)]]
    lines = [line for line in of(Table("t", "Speed", columns, rows, ["a note"])).splitlines() if line.startswith("|")]
    assert lines == [
        "| method   |                speedup |",
        "| -------- | ---------------------: |",
        "| baseline |                  1.00× |",
        "| a_b\\|c   | **1.50× [1.25, 1.75]** |",
    ]


def test_a_chart_is_its_picture():
    chart = Chart("c", "Speed [s]", "bars", "", "", [Series("", [])], notes=["seen"])
    assert "![Speed \\[s\\]](charts/c.png)\n\n- seen" in of(chart)


def test_an_example_is_folded_and_coloured_by_tags():
    kinds = [("a", "accepted"), ("b", "accepted"), ("<c>", "rejected"), ("d", "target")]
    spans = [Span(text, kind) for text, kind in kinds]
    text = of(Example("gsm8k 1", "ngram", spans, [("tau", "2.3")], [("user", "<Q>?")]))
    said = "<i>user: &lt;Q&gt;?</i>\n\n<b>ab</b><del>&lt;c&gt;</del>d"
    assert f"<summary>gsm8k 1: ngram</summary>\n\ntau 2.3\n\n<pre>{said}</pre>" in text


def test_a_warning_stands_out():
    assert "> **Warning.** mind" in of(Text("mind", warning=True))


def test_hostile_text_is_text():
    outside = re.sub(r"<details>.*?</details>", "", TEXT, flags=re.DOTALL)
    assert not re.search(r"(?<!\\)<", outside), "a tag outside the examples"
    tags = set(re.findall(r"</?\w+", TEXT[TEXT.index("<details>") :].replace("\\<", "")))
    assert {tag.strip("</") for tag in tags} <= {"details", "summary", "pre", "b", "del", "i"}
    assert all(letter.isprintable() or letter in "\n\t" for letter in TEXT)
    rows = [line for line in TEXT.splitlines() if line.startswith("|") and "script" in line]
    assert rows and all(len(re.findall(r"(?<!\\)\|", row)) in (2, len(sample.COLUMNS) + 1) for row in rows)


def test_every_chart_and_table_of_the_page_is_there():
    for name in ("pareto", "by_task", "positions", "phases", "harm"):
        assert f"(charts/{name}.png)" in TEXT
    assert "### All methods" in TEXT and "No rows." in TEXT
