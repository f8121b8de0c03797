"""A table as CSV, for who goes on computing: full precision, and an interval as three columns."""

import csv
import io
import math

from toolkit.evaluation.stats import Interval
from toolkit.report.page import Table, Value


def to_csv(table: Table) -> str:
    """One line of headings, then a line a row. What is not known is empty."""
    wide = [any(isinstance(row[i], Interval) for row in table.rows) for i in range(len(table.columns))]
    written = io.StringIO()
    lines = csv.writer(written, lineterminator="\n")
    lines.writerow(
        name
        for column, three in zip(table.columns, wide, strict=True)
        for name in ([column.key, f"{column.key}_low", f"{column.key}_high"] if three else [column.key])
    )
    for row in table.rows:
        lines.writerow(text for value, three in zip(row, wide, strict=True) for text in _texts(value, three))
    return written.getvalue()


def _texts(value: Value, three: bool) -> list[str]:
    if isinstance(value, Interval):
        return [_text(value.value), _text(value.low), _text(value.high)]
    return [_text(value), "", ""] if three else [_text(value)]


def _text(value: str | int | float | bool | None) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
