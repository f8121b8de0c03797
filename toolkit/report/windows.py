"""Window ablation: methods that differ in nothing but how many tokens they draft at most."""

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from toolkit.evaluation.pareto_points import Point as Method
from toolkit.report import parts
from toolkit.report.page import Chart, Column, Point, Section, Series, Table, Value
from toolkit.report.runs import BESIDE, Group

_LIMITS = ("k", "max")  # options of length policies that say how long a window may get
_COLUMNS = [
    Column("family", "methods"),
    Column("window", "window", "count", None, "tokens at most"),
    Column("speedup", "speedup", "ratio", "high"),
    Column("tau", "tau", "number", "high"),
    Column("acceptance_rate", "accepted", "percent"),
    Column("proposed_per_token", "drafted a token", "number"),
    Column("accuracy", "accuracy", "percent"),
]


def section(groups: Sequence[Group]) -> Section | str:
    found: list[Chart | Table] = []
    for group in groups:
        families = _families(group)
        if families:
            found += _of(group, families, groups)
    if not found:
        return "no timed methods that differ in their window only"
    intro = "Methods that are the same but for the longest window they may draft: what a longer one brings, and costs."
    return Section("windows", "Window ablation", intro, found)


def _families(group: Group) -> dict[str, list[tuple[int, Method]]]:
    """Name -> (window, method), short windows first."""
    alike: dict[str, dict[int, Method]] = defaultdict(dict)
    for point in group.points:
        window, rest = _without_window(group.joined.methods[point.method])
        if window is not None and point.speed and point.speed.drafts:
            alike[rest].setdefault(window, point)
    ordered = [sorted(found.items()) for found in alike.values() if len(found) > 1]
    return {_name([point for _, point in members]): members for members in ordered}


def _without_window(pieces: dict[str, Any]) -> tuple[int | None, str]:
    """A method's window, and all else that it is."""
    rest = {key: value for key, value in pieces.items() if key not in BESIDE}
    length = dict(rest["length"])
    windows = [length.pop(key) for key in _LIMITS if isinstance(length.get(key), int)]
    return (windows[0] if windows else None), json.dumps(rest | {"length": length}, sort_keys=True)


def _name(points: Sequence[Method]) -> str:
    """The grid's, with its other values, where all are of one; else the first and the last."""
    first = points[0]
    if any((point.family, *_others(point)) != (first.family, *_others(first)) for point in points):
        return f"{first.method} … {points[-1].method}"
    return " ".join([first.family, *_others(first)])


def _others(point: Method) -> list[str]:
    """Of a cell, the values that are no window's."""
    windows = [f"length.{key}" for key in _LIMITS]
    return [f"{key.rpartition('.')[2]}={value}" for key, value in point.values.items() if key not in windows]


def _of(group: Group, families: dict[str, list[tuple[int, Method]]], groups: Sequence[Group]) -> list[Chart | Table]:
    taus = {point.method: parts.tau(group.timed(point.method)) for members in families.values() for _, point in members}
    rows: list[list[Value]] = [
        [
            name,
            window,
            point.speedup,
            taus[point.method],
            point.speed.acceptance_rate,
            point.speed.proposed / point.speed.tokens,
            point.accuracy,
        ]
        for name, members in families.items()
        for window, point in members
    ]
    fast = [
        Series(
            name,
            [Point(k, p.speedup.value, y_range=parts.bounds(p.speedup)) for k, p in members if p.speedup],
        )
        for name, members in families.items()
    ]
    name, title = parts.stem("windows", group, groups), parts.titled("Speedup by window", group, groups)
    return [
        Chart(name, title, "lines", "window", "speedup", fast, reference=1.0, x_form="count", y_form="ratio"),
        Table(name, title, _COLUMNS, rows),
    ]
