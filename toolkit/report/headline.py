"""Every method of each target and task with its figures, and what they show beside plain autoregression."""

from collections import defaultdict
from collections.abc import Sequence

from toolkit.evaluation.paired import Paired
from toolkit.evaluation.pareto_points import Point
from toolkit.evaluation.score import ACCURACY, BASELINE, per_correct
from toolkit.evaluation.stats import Interval
from toolkit.evaluation.table import speed_warnings
from toolkit.export.figures import share, times
from toolkit.report import parts
from toolkit.report.page import Column, Section, Table, Text, Value
from toolkit.report.runs import Group

_COLUMNS = [
    parts.METHOD,
    parts.EXACT,
    Column("speedup", "speedup", "ratio", "high", "tokens/s over the baseline's, same prompts, in alternating blocks"),
    Column("speed_verdict", "speed is"),
    Column("accuracy", "accuracy", "percent", "high", "quality set, Wilson interval over prompts"),
    Column("accuracy_difference", "difference", "points", None, "from the baseline's, paired bootstrap"),
    Column("p", "p", "p", None, "McNemar's exact test of paired answers"),
    Column("accuracy_verdict", "accuracy is"),
    Column("tokens_per_second", "tokens/s", "number", "high"),
    Column("tau", "tau", "number", "high", "emitted tokens / the target's forwards after prefill"),
    Column("divergence", "D", "number", "low", "distance from the target's law, a token; 0 of what is exact"),
    Column("seconds_per_correct", "s / correct", "seconds", "low", "seconds of an answer over accuracy"),
    Column("speed_prompts", "n speed", "count"),
    Column("quality_prompts", "n quality", "count"),
]


def section(groups: Sequence[Group]) -> Section | str:
    found: list[Table | Text] = []
    for group in groups:
        found += [Text(line, warning=True) for line in _warnings(group)]
        found.append(Text(f"{group.name}: {_best(group)}"))
        rows = [_row(group, point) for point in group.points]
        found.append(
            Table(parts.stem("headline", group, groups), group.name, _COLUMNS, rows, [*_notes(group), *_tests(group)])
        )
    intro = (
        "Speed is of the speed set (the stated batch, methods in alternating blocks after a warm-up), accuracy of the "
        "quality set (all its prompts, never timed). 95% intervals: bootstrap over blocks of prompts for speed, over "
        "prompts for tau, Wilson for accuracy. An exact method has the baseline's accuracy; it was only run for it "
        "where the recipe says quality.exact: true, and then its own answers are compared."
    )
    return Section("headline", "Headline", intro, found)


def _row(group: Group, point: Point) -> list[Value]:
    speed, quality, paired = point.speed, point.quality, _paired(point)
    rows = group.timed(point.method)
    plain = point.method == BASELINE
    return [
        point.method,
        point.lossless,
        point.speedup.value if plain and point.speedup else point.speedup,  # its own is 1, and no estimate
        None if plain else parts.said(point.speedup, 1.0, "faster", "slower"),
        point.accuracy,
        paired.difference if paired else None,
        paired.p if paired else None,
        paired.verdict if paired else "the baseline's" if quality and quality.inherited and quality.accuracy else None,
        parts.pace(rows),
        parts.tau(rows),
        quality.divergence if quality else None,
        per_correct(speed, quality) if speed else None,
        speed.n if speed else None,
        (quality.n or None) if quality and not quality.inherited else None,
    ]


def _paired(point: Point) -> Paired | None:
    """Its own answers beside the baseline's, of an exact method too where it was run for them."""
    return point.quality.paired if point.quality else None


def _best(group: Group) -> str:
    """The fastest of what is exact, and of what shows no loss."""
    timed = [point for point in group.points if point.speedup and point.method != BASELINE]
    words = []
    exact = [point for point in timed if point.lossless]
    kept = [point for point in timed if point.paired and point.paired.verdict != "lower" and not point.control]
    for kind, some in (("exact", exact), ("lossy without a loss of accuracy shown", kept)):
        if some:
            best = max(some, key=lambda point: point.speedup.value)
            accuracy = f", accuracy {_share(best.accuracy)}" if not best.lossless and best.accuracy else ""
            words.append(f"fastest {kind}: {best.method}, {_times(best.speedup)}{accuracy}")
    if words:
        return "; ".join(words) + "."
    return "no method but the baseline was timed." if group.speeds else "nothing was timed."


def _warnings(group: Group) -> list[str]:
    """What makes its figures suspect: from this run's own summaries, and from having joined several."""
    found = [
        f"{path}: {why}: figures of the rows so far, and no check of greedy equality"
        for path, why in group.unfinished.items()
    ]
    said = [note for run in group.runs for note in run.results["notes"]] + group.joined.notes
    found += [f"{group.name}: {note}" for note in dict.fromkeys(said) if note.startswith(("WARNING", "BUG"))]
    return found


def _notes(group: Group) -> list[str]:
    setting = group.joined.identity
    sampling = setting["sampling"]
    notes = [
        f"temperature {sampling['temperature']:g}, at most {sampling['max_new_tokens']} tokens, chat template "
        f"{'on' if setting['chat_template'] else 'off'}"
    ]
    notes += [f"accuracy is {metric}" for metric in group.metrics if metric != ACCURACY]
    notes += ["throughput only: answers of this task have no verdict"] if not group.metrics else []
    notes += [note for note in group.joined.notes if not note.startswith("WARNING")]
    notes += speed_warnings(group.speeds)
    missing: dict[str, list[str]] = defaultdict(list)
    for point in group.points:
        if point.untimed:
            missing[point.untimed].append(point.method)
    return notes + [f"not timed, {why}: {', '.join(methods)}" for why, methods in missing.items()]


def _tests(group: Group) -> list[str]:
    tests = sum(paired is not None and paired.p is not None for paired in map(_paired, group.points))
    return [f"p is not corrected for {tests} comparisons"] if tests > 1 else []


def _times(found: Interval) -> str:
    return times(found.value, found.low, found.high)


def _share(found: Interval) -> str:
    return share(found.value, found.low, found.high)
