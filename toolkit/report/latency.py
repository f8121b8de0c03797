"""How long a user waits: until the first token, for each further one, and for the whole answer."""

from collections.abc import Sequence

import numpy as np

from toolkit.evaluation.records import Record
from toolkit.report import parts
from toolkit.report.page import Chart, Column, Point, Section, Series, Table, Value
from toolkit.report.runs import Group

PERCENTILES = (50, 90, 99)
_WHAT = {
    "answer": "whole answer",
    "first_token": "first token",
    "per_token": "a further token",
}
_COLUMNS = [
    parts.METHOD,
    Column("rows", "answers", "count"),
    *(Column(f"{key}_p{p}_ms", f"{title} p{p}", "ms", "low") for key, title in _WHAT.items() for p in PERCENTILES),
]


def section(groups: Sequence[Group]) -> Section | str:
    found = [part for group in groups if any(speed.rows for speed in group.speeds) for part in _of(group, groups)]
    if not found:
        return "no answer in a speed set"
    intro = (
        "Of the speed set, an answer at a time: from the beginning of its batch until its last token, until the first "
        "round gave its first tokens, and what each token after that round's took on average."
    )
    return Section("latency", "Latency", intro, found)


def _of(group: Group, groups: Sequence[Group]) -> list[Chart | Table]:
    waited = {speed.method: _milliseconds(group.timed(speed.method)) for speed in group.speeds if speed.rows}
    rows: list[list[Value]] = [
        [method, len(found["answer"]), *(_percentile(found[key], p) for key in _WHAT for p in PERCENTILES)]
        for method, found in waited.items()
    ]
    fewest = min(len(found["answer"]) for found in waited.values())
    notes = (
        [f"{fewest} answers a method: p99 is close to the slowest of them, and in no picture"] if fewest < 100 else []
    )
    drawn = PERCENTILES if fewest >= 100 else PERCENTILES[:-1]
    batches = sorted({speed.batch for speed in group.speeds})
    title = parts.titled("Latency", group, groups) + f" (batch {', '.join(map(str, batches))})"
    return [
        *(_chart(group, groups, waited, key, drawn) for key in ("first_token", "answer")),
        Table(parts.stem("latency", group, groups), title, _COLUMNS, rows, notes),
    ]


def _chart(
    group: Group,
    groups: Sequence[Group],
    waited: dict[str, dict[str, np.ndarray]],
    key: str,
    percentiles: Sequence[int],
) -> Chart:
    series = [
        Series(f"p{p}", [Point(method, _percentile(found[key], p)) for method, found in waited.items()])
        for p in percentiles
    ]
    title = parts.titled(f"Milliseconds until the {_WHAT[key]}", group, groups)
    return Chart(parts.stem(f"latency_{key}", group, groups), title, "bars", "method", "ms", series, y_form="ms")


def _milliseconds(rows: Sequence[Record]) -> dict[str, np.ndarray]:
    """By what was waited for; [n] answers."""
    total = np.array([row.times["total"] for row in rows])
    first = np.array([row.first_token_seconds for row in rows])
    # the first round gave as many tokens as it accepted and one more; without its windows a row is taken to have one
    given = np.array([1 + (row.windows[0][0] if row.windows else 0) for row in rows])
    left = np.array([row.n_tokens for row in rows]) - given
    further = (total - first)[left > 0] / left[left > 0]
    return {"answer": 1e3 * total, "first_token": 1e3 * first, "per_token": 1e3 * further}


def _percentile(values: np.ndarray, p: int) -> float | None:
    return float(np.percentile(values, p)) if len(values) else None
