"""The same method on several tasks: its speedup on each."""

from collections import defaultdict
from collections.abc import Sequence

from toolkit.evaluation import stats
from toolkit.evaluation.records import Record
from toolkit.evaluation.score import BASELINE, pairs
from toolkit.evaluation.stats import Interval
from toolkit.report import parts
from toolkit.report.page import Chart, Column, Point, Section, Series, Table, Value
from toolkit.report.runs import Group

Speedups = dict[str, dict[str, Interval]]  # method -> task -> speedup


def section(groups: Sequence[Group]) -> Section | str:
    by_target: dict[str, Speedups] = defaultdict(lambda: defaultdict(dict))
    for group in groups:
        for point in group.points:
            if point.method != BASELINE and point.speedup:
                by_target[group.target][point.method] |= {group.task: point.speedup} | _domains(group, point.method)
    found: list[Chart | Table] = []
    for target, methods in by_target.items():
        tasks = list(dict.fromkeys(task for speedups in methods.values() for task in speedups))
        if len(tasks) > 1:
            found += _of(target, tasks, methods)
    if not found:
        return "no target that was timed on several tasks"
    intro = "Each speedup is over the baseline's tokens/s on the same prompts of that task, timed side by side."
    return Section("tasks", "Speedup by task", intro, found)


def _of(target: str, tasks: Sequence[str], methods: Speedups) -> list[Chart | Table]:
    columns = [parts.METHOD, *(Column(f"speedup_{parts.slug(task)}", task, "ratio", "high") for task in tasks)]
    rows: list[list[Value]] = [[name, *(found.get(task) for task in tasks)] for name, found in methods.items()]
    # the longer of the two stands beside the bars, where each has its name; there are few colours
    of = "method" if len(methods) > len(tasks) else "task"
    bars: dict[str, list[Point]] = defaultdict(list)
    for method, found in methods.items():
        for task, one in found.items():
            colour, bar = (task, method) if of == "method" else (method, task)
            bars[colour].append(Point(bar, one.value, y_range=parts.bounds(one)))
    name = f"tasks_{parts.slug(target)}"
    title = f"Speedup by task: {target}"
    series = [Series(each, points) for each, points in bars.items()]
    chart = Chart(name, title, "bars", of, "speedup over the baseline", series, reference=1.0, y_form="ratio")
    return [chart, Table(name, title, columns, rows)]


def _domains(group: Group, method: str) -> dict[str, Interval]:
    """Of a mixed task's parts; where each prompt was timed alone, as a batch holds prompts of several."""
    mine, base = group.joined.timed[method]
    if group.joined.identity["task"]["type"] != "mixed" or any(row.batch > 1 for row in (*mine, *base)):
        return {}
    split = [_by_domain(group, rows) for rows in (mine, base)]
    found = {domain: stats.speedup(pairs(rows, split[1].get(domain, []))) for domain, rows in split[0].items()}
    return {f"{group.task}: {domain}": one for domain, one in found.items() if one}


def _by_domain(group: Group, rows: Sequence[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = defaultdict(list)
    for row in rows:
        found[group.domain(row.prompt_id)].append(row)
    return found
