"""Speed against accuracy: who is on the front, who is below whom, and how much of the plane is covered."""

from collections.abc import Sequence

from toolkit.evaluation import pareto_points
from toolkit.evaluation.pareto_points import Point as Method
from toolkit.evaluation.pareto_report import references
from toolkit.evaluation.pareto_tables import standing
from toolkit.evaluation.stats import Interval
from toolkit.report import parts
from toolkit.report.page import Chart, Column, Point, Section, Series, Table, Value
from toolkit.report.runs import Group

REFERENCE = (1.0, 0.0)  # speedup and accuracy that the hypervolume counts from
_PLACES = [
    parts.METHOD,
    parts.EXACT,
    Column("speedup", "speedup", "ratio", "high"),
    Column("accuracy", "accuracy", "percent", "high"),
    Column("family", "family"),
    Column("front", "front", help="by the estimates; ~ names in what intervals overlap, so that it may be chance"),
]
_VOLUMES = [
    Column("of", "of"),
    Column("methods", "methods", "count"),
    Column("hypervolume", "hypervolume", "number", "high"),
]
_EQUAL = [
    Column("at_the_speed_of", "at the speed of"),
    Column("family", "family"),
    parts.METHOD,
    Column("speedup", "speedup", "ratio"),
    Column("accuracy", "accuracy", "percent"),
    Column("difference", "difference", "points", None, "the first method's accuracy less this one's, bootstrap"),
    Column("p", "p", "p", None, "McNemar's exact test"),
    Column("verdict", "accuracy of the first is"),
]


def section(groups: Sequence[Group]) -> Section | str:
    found: list[Chart | Table] = []
    for group in groups:
        placed = [point for point in group.points if point.placed]
        if len(placed) > 1:
            found += _of(group, placed, groups)
    if not found:
        return "no two methods with both a speed and an accuracy"
    intro = (
        "A method is below another one that is at least as fast and as accurate, and better in one. Hypervolume: the "
        "area of speedup x accuracy that some method covers beyond 1x and 0; the best of many noisy points looks "
        "better than it is."
    )
    return Section("tradeoff", "Speed against accuracy", intro, found)


def _of(group: Group, placed: Sequence[Method], groups: Sequence[Group]) -> list[Chart | Table]:
    beaten = pareto_points.dominated(placed)
    rows: list[list[Value]] = [
        [one.method, one.lossless, one.speedup, one.accuracy, one.family, standing(one, beaten)] for one in placed
    ]
    volumes: list[list[Value]] = [
        [one.of, one.points, Interval(one.value, one.low, one.high)]
        for one in pareto_points.volumes(group.joined, placed, REFERENCE)
    ]
    beside = pareto_points.at_the_speed_of(group.joined, placed, references(group.points))
    equal: list[list[Value]] = [
        [one.reference.method, one.family, one.cell.method, one.cell.speedup, one.cell.accuracy, *_paired(one.paired)]
        for one in beside
        if one.cell
    ]
    title = parts.titled("Speed and accuracy", group, groups)
    found: list[Chart | Table] = [
        Chart(
            parts.stem("front", group, groups),
            title,
            "scatter",
            "speedup over the baseline",
            "accuracy",
            _series(placed, beaten),
            reference=None,
            x_form="ratio",
            y_form="percent",
        ),
        Table(parts.stem("front", group, groups), title, _PLACES, rows),
        Table(parts.stem("hypervolume", group, groups), parts.titled("Hypervolume", group, groups), _VOLUMES, volumes),
    ]
    if equal:
        notes = [
            "a family's most accurate method that is at least as fast; picked by the very answers that it is compared "
            f"with, which flatters the family; not corrected for {len(equal)} comparisons"
        ]
        title = parts.titled("At equal speed", group, groups)
        found.append(Table(parts.stem("equal_speed", group, groups), title, _EQUAL, equal, notes))
    return found


def _series(placed: Sequence[Method], beaten: dict[str, Method]) -> list[Series]:
    """By what a method claims."""
    kinds = {"exact": [], "lossy": [], "accepts everything (control)": []}
    for one in placed:
        kind = "accepts everything (control)" if one.control else "exact" if one.lossless else "lossy"
        kinds[kind].append(
            Point(
                *one.xy,
                label=one.method,
                x_range=parts.bounds(one.speedup),
                y_range=parts.bounds(one.accuracy),
                marked=one.method not in beaten,
            )
        )
    return [Series(kind, points) for kind, points in kinds.items() if points]


def _paired(found: pareto_points.Paired | None) -> list[Value]:
    return [found.difference, found.p, found.verdict] if found else [None, None, None]
