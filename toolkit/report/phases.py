"""Where the time goes: prefill, drafting, verification and everything else, of a token."""

from collections.abc import Sequence

from toolkit.evaluation.score import PHASES
from toolkit.evaluation.table import CUDA_PHASES
from toolkit.report import parts
from toolkit.report.page import Chart, Column, Point, Section, Series, Table, Value
from toolkit.report.runs import Group

_COLUMNS = [
    parts.METHOD,
    *(Column(f"{phase}_share", phase, "percent") for phase in PHASES),
    Column("token_ms", "a token", "ms", "low", "seconds of the batches / emitted tokens"),
    Column("round_ms", "a round", "ms", None, "after prefill, all rows of the batch together"),
    Column("peak_memory_bytes", "peak memory", "bytes"),
]


def section(groups: Sequence[Group]) -> Section | str:
    found = [part for group in groups if any(speed.tokens for speed in group.speeds) for part in _of(group, groups)]
    if not found:
        return "no answer in a speed set"
    return Section("phases", "Where the time goes", "Of the speed set's clock, which the host keeps.", found)


def _of(group: Group, groups: Sequence[Group]) -> list[Chart | Table]:
    speeds = [speed for speed in group.speeds if speed.tokens and speed.seconds]
    rows: list[list[Value]] = [
        [
            one.method,
            *(one.shares[phase] for phase in PHASES),
            1e3 * one.seconds / one.tokens,
            None if one.round_seconds is None else 1e3 * one.round_seconds,
            one.peak_memory,
        ]
        for one in speeds
    ]
    series = [
        Series(phase, [Point(one.method, 1e3 * one.shares[phase] * one.seconds / one.tokens) for one in speeds])
        for phase in PHASES
    ]
    memory = {str(run.results["peak_memory"]) for run in group.runs if run.results.get("peak_memory") and run.timed}
    notes = [*([CUDA_PHASES] if group.on_cuda else []), *(f"peak memory: {one}" for one in sorted(memory))]
    name, title = parts.stem("phases", group, groups), parts.titled("Milliseconds a token by phase", group, groups)
    return [
        Chart(name, title, "stacked", "method", "ms a token", series, y_form="ms"),
        Table(name, title, _COLUMNS, rows, notes),
    ]
