"""Whose tokens these are: the drafts that a router chose, and the models that a gate let speak."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from toolkit.evaluation.records import Record
from toolkit.evaluation.stats import Interval
from toolkit.report import parts
from toolkit.report.page import Chart, Column, Point, Section, Series, Table, Value
from toolkit.report.runs import Group

Shares = dict[str, Counter[str]]  # row's name -> by whom, how many
_SPEAKERS = {"1": "draft 1", "2": "draft 2", "t": "target"}
_COUNTERS = {"gate_d1": "draft 1", "gate_d2": "draft 2", "gate_fallback": "target"}
_COUNTED = [parts.METHOD, Column("set", "set"), Column("counter", "counter"), Column("count", "count", "count")]
_DIRECTORY = Column("directory", "directory")
_WORTH = [
    parts.METHOD,
    Column("prompts", "prompts", "count"),
    Column("choosing_ms", "choosing a prompt", "ms", "low"),
    Column("best_single", "best single draft"),
    Column("gain", "gain over it", "ratio", "high", "its time over the router's, on these prompts"),
    Column("regret_ms", "regret a token", "ms", "low", "over the draft that was fastest on each prompt"),
    Column("right", "fastest draft found", "percent", "high"),
]


def section(groups: Sequence[Group]) -> Section | str:
    found: list[Chart | Table] = []
    for group in groups:
        found += _routers(group, groups) + _gates(group, groups) + _counted(group, groups)
    if not found:
        return "no method with a router, a gate or a rule that counts"
    intro = "A router gives a prompt to one of several drafts; a gate decides token by token who is believed."
    return Section("usage", "Draft usage", intro, found)


def _routers(group: Group, groups: Sequence[Group]) -> list[Chart | Table]:
    """Shares of rounds by domain, and what the run found the choices to be worth. Who has no choice is left out."""
    shares: Shares = defaultdict(Counter)
    for name, pieces in group.joined.methods.items():
        if pieces["proposer"]["type"] == "routed" and pieces["proposer"]["router"]["type"] != "fixed":
            for row in _rows(group, name):
                shares[f"{name}: {group.domain(row.prompt_id)}"].update(row.routed)
    found = _shares(group, groups, "rounds of routers by draft", "method and domain", shares) if shares else []
    worth = [(run, name, one) for run in group.runs for name, one in run.results.get("routing", {}).items()]
    if worth:
        several = len({run.path for run, _, _ in worth}) > 1  # each has timed its own
        columns = [*([_DIRECTORY] if several else []), *_WORTH]
        rows = [[*([str(run.path)] if several else []), name, *_worth(one)] for run, name, one in worth]
        title = parts.titled("What routing was worth", group, groups)
        notes = ["of the speed set at batch 1, where each draft alone was timed beside the router; else only its cost"]
        found.append(Table(parts.stem("routing", group, groups), title, columns, rows, notes))
    return found


def _gates(group: Group, groups: Sequence[Group]) -> list[Chart | Table]:
    shares: Shares = {}
    for point in group.points:
        counts = sum((_spoken(row) for row in _rows(group, point.method) if row.sources or row.counters), Counter())
        if counts:
            shares[point.method] = counts
    return _shares(group, groups, "tokens of gated methods by model", "method", shares) if shares else []


def _spoken(row: Record) -> Counter[str]:
    """Tokens by model; of rows that came before their tokens had sources, as the rule counted them."""
    if row.sources:
        return Counter(_SPEAKERS[letter] for letter in row.sources)
    return Counter({who: row.counters[name] for name, who in _COUNTERS.items() if name in row.counters})


def _counted(group: Group, groups: Sequence[Group]) -> list[Chart | Table]:
    """What acceptance rules counted as they decoded."""
    rows: list[list[Value]] = []
    for point in group.points:
        for summary, name in ((point.speed, "speed"), (point.quality, "quality")):
            for counter, count in (summary.counters if summary else {}).items():
                rows.append([point.method, name, counter, count])
    title = parts.titled("Counted by acceptance rules", group, groups)
    return [Table(parts.stem("counters", group, groups), title, _COUNTED, rows)] if rows else []


def _shares(group: Group, groups: Sequence[Group], what: str, of: str, shares: Shares) -> list[Chart | Table]:
    """A bar and a row each."""
    names = sorted({name for counts in shares.values() for name in counts})
    columns = [
        Column(parts.slug(of), of),
        *(Column(f"{parts.slug(name)}_share", name, "percent") for name in names),
        Column("total", "all", "count"),
    ]
    rows: list[list[Value]] = [
        [row, *(counts[name] / counts.total() for name in names), counts.total()] for row, counts in shares.items()
    ]
    series = [Series(n, [Point(row, counts[n] / counts.total()) for row, counts in shares.items()]) for n in names]
    name = parts.stem(parts.slug(what), group, groups)
    title = parts.titled(f"Share of {what}", group, groups)
    return [
        Chart(name, title, "stacked", of, "share", series, y_form="percent"),
        Table(name, title, columns, rows),
    ]


def _worth(found: dict[str, Any]) -> list[Value]:
    choosing = found["choosing"]["ms_a_prompt"] if "choosing" in found else None
    if "regret" not in found:
        return [found["prompts"], choosing, None, None, None, None]
    gain, regret = _interval(found["gain_best_here"]), _interval(found["regret"]["routed"])
    return [found["prompts"], choosing, found["single_best_here"], gain, regret, found["right"]]


def _interval(found: dict[str, float | None]) -> Interval:
    """As a file has it: null is a bound that is not known."""
    return Interval(*(float("nan") if found[key] is None else found[key] for key in ("value", "low", "high")))


def _rows(group: Group, method: str) -> list[Record]:
    """Of both sets: who drafted, or spoke, is no matter of the clock."""
    return [*group.timed(method), *group.joined.answers.get(method, {}).values()]
