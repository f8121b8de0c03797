"""How much of what is drafted stands: tau, and acceptance by the place in the window."""

from collections.abc import Sequence

from toolkit.evaluation.records import Record
from toolkit.evaluation.score import Speed
from toolkit.evaluation.stats import Interval
from toolkit.report import parts
from toolkit.report.page import Chart, Column, Point, Section, Series, Table, Value
from toolkit.report.runs import Group

PLACES = 8  # of a window, in the tables; the chart has all
FEWEST = 30  # drafts that reached a place: a share of fewer says little, and is in the tables only
_COLUMNS = [
    parts.METHOD,
    Column("tau", "tau", "number", "high", "emitted tokens / the target's forwards after prefill"),
    Column("acceptance_rate", "accepted", "percent", "high", "accepted / proposed tokens"),
    Column("acceptance_length", "acceptance length", "number", "high", "1 + accepted / drafts"),
    Column("proposed_per_token", "drafted a token", "number", "low", "proposed / emitted tokens: what drafting costs"),
    Column("drafts", "drafts", "count"),
    Column("proposed", "proposed", "count"),
    Column("accepted", "accepted tokens", "count"),
]


def section(groups: Sequence[Group]) -> Section | str:
    found = [part for group in groups if group.drafting for part in _of(group, groups)]
    if not found:
        return "no timed method that drafts"
    intro = (
        "Of the speed set. Conditional: of the drafts that reach a place with every token before it accepted, the "
        "share whose token there is accepted. Unconditional: the same, of all drafts."
    )
    return Section("acceptance", "Tau and acceptance by position", intro, found)


def _of(group: Group, groups: Sequence[Group]) -> list[Chart | Table]:
    speeds = group.drafting
    taus = {one.method: parts.tau(group.timed(one.method)) for one in speeds}
    rows: list[list[Value]] = [
        [
            one.method,
            taus[one.method],
            parts.of_prompts((row.prompt_id, row.accepted, row.proposed) for row in group.timed(one.method)),
            one.acceptance_length,
            one.proposed / one.tokens,
            one.drafts,
            one.proposed,
            one.accepted,
        ]
        for one in speeds
    ]
    n = f"n={max(one.n for one in speeds)}"
    return [
        _taus(group, taus, groups),
        *_positions(group, speeds, groups),
        Table(parts.stem("tau", group, groups), f"{parts.titled('Tau', group, groups)} ({n})", _COLUMNS, rows),
        _places(group, speeds, groups, "conditional"),
        _places(group, speeds, groups, "unconditional"),
    ]


def _taus(group: Group, taus: dict[str, Interval | None], groups: Sequence[Group]) -> Chart:
    known = {method: one for method, one in taus.items() if one}
    points = [Point(method, one.value, y_range=parts.bounds(one)) for method, one in known.items()]
    title = parts.titled("Tokens a target forward", group, groups)
    name = parts.stem("tau", group, groups)
    return Chart(name, title, "bars", "method", "tau", [Series("tau", points)], reference=1.0)


def _positions(group: Group, speeds: Sequence[Speed], groups: Sequence[Group]) -> list[Chart]:
    series = [Series(one.method, _reached(one, group.timed(one.method))) for one in speeds]
    known = [one for one in series if one.points]
    chart = Chart(
        parts.stem("acceptance_by_position", group, groups),
        parts.titled("Acceptance by position", group, groups),
        "lines",
        "position in the draft",
        "accepted, given all before it",
        known,
        notes=[f"without places that fewer than {FEWEST} drafts reached"],
        x_form="count",
        y_form="percent",
    )
    return [chart] if known else []


def _reached(speed: Speed, rows: Sequence[Record]) -> list[Point]:
    """The places of its drafts that enough of them came to."""
    times = [sum(row.reached_at[i] for row in rows if i < len(row.reached_at)) for i in range(len(speed.conditional))]
    return [
        Point(i, share)
        for i, (share, count) in enumerate(zip(speed.conditional, times, strict=True), start=1)
        if share is not None and count >= FEWEST
    ]


def _places(group: Group, speeds: Sequence[Speed], groups: Sequence[Group], kind: str) -> Table:
    shares = {one.method: one.conditional if kind == "conditional" else one.unconditional for one in speeds}
    width = min(PLACES, max(map(len, shares.values())))
    columns = [parts.METHOD, *(Column(f"position_{i + 1}", str(i + 1), "percent") for i in range(width))]
    rows: list[list[Value]] = [
        [method, *found[:width], *[None] * (width - len(found))] for method, found in shares.items()
    ]
    title = parts.titled(f"Acceptance by position, {kind}", group, groups)
    longest = max(map(len, shares.values()))
    notes = [f"the first {width} of {longest} places"] if longest > width else []
    return Table(parts.stem(f"acceptance_{kind}", group, groups), title, columns, rows, notes)
