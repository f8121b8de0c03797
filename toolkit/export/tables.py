"""Tables of a model card: a manifest's metrics as Markdown, one row a measurement.

A table has the columns for which at least one row has a value. Figures are rounded for reading, never computed.
"""

from collections.abc import Callable, Sequence
from typing import Any

from toolkit.export import figures
from toolkit.export.figures import NONE

Row = dict[str, Any]
Column = tuple[str, Callable[[Row], str | None]]


def table(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    drawn = [[cell(row) for row in rows] for _, cell in columns]
    kept = [i for i, cells in enumerate(drawn) if any(cell is not None for cell in cells)]
    lines = [[drawn[i][number] or NONE for i in kept] for number in range(len(rows))]
    return grid([columns[i][0] for i in kept], lines)


def grid(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def plain(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value).replace("|", "\\|")


def _text(key: str) -> Callable[[Row], str | None]:
    return lambda row: None if row.get(key) is None else plain(row[key])


def _code(key: str) -> Callable[[Row], str | None]:
    return lambda row: f"`{row[key]}`" if row.get(key) else None


def _number(key: str, digits: int) -> Callable[[Row], str | None]:
    return lambda row: None if row.get(key) is None else figures.number(row[key], digits)


def _percent(key: str) -> Callable[[Row], str | None]:
    return lambda row: None if row.get(key) is None else figures.percent(row[key])


def _accuracy(row: Row) -> str | None:
    low, high = row.get("accuracy_low"), row.get("accuracy_high")
    return figures.percent(row["accuracy"]) if low is None else figures.share(row["accuracy"], low, high)


def _speedup(row: Row) -> str | None:
    if row.get("speedup") is None:
        return None
    low, high = row.get("speedup_low"), row.get("speedup_high")
    return f"{row['speedup']:.2f}x" if low is None else figures.times(row["speedup"], low, high)


def _acceptance(row: Row) -> str | None:
    return ", ".join(f"{share:.0%}" for share in row["acceptance"]) if row.get("acceptance") else None


def _lossless(row: Row) -> str | None:
    return None if row.get("lossless") is None else "yes" if row["lossless"] else "no"


_SETTING: list[Column] = [(key, _text(key)) for key in ("task", "style", "method", "temperature")]
QUALITY: list[Column] = [
    *_SETTING,
    ("lossless", _lossless),
    ("n", _text("n")),
    ("accuracy", _accuracy),
    ("cut", _percent("cut")),
    ("tokens", _number("tokens", 0)),
    ("result", _code("result_file")),
]
SPEED: list[Column] = [
    *_SETTING,
    ("lossless", _lossless),
    ("k", _text("k")),
    ("n", _text("n")),
    ("tau", _number("tau", 2)),
    ("acceptance by position", _acceptance),
    ("tokens/s", _number("tokens_per_s", 1)),
    ("speedup", _speedup),
    ("s/correct", _number("seconds_per_correct", 1)),
    ("hardware", _text("hardware")),
    ("result", _code("result_file")),
]
