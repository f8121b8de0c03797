"""How much is said for a right answer: lengths of answers by method, and by what the target was trained to write."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from toolkit.evaluation.compare import Side, compare
from toolkit.evaluation.records import Record
from toolkit.evaluation.score import BASELINE
from toolkit.report import parts
from toolkit.report.page import Chart, Column, Point, Section, Series, Table, Value
from toolkit.report.runs import Group

# rows are of several tasks and targets: no figure of a column is the best of them
_COLUMNS = [
    Column("target", "target"),
    Column("task", "task"),
    parts.METHOD,
    Column("answers", "answers", "count"),
    Column("tokens_mean", "tokens", "number", None, "mean of an answer, resampled by prompt"),
    Column("tokens_p50", "median", "number"),
    Column("tokens_p90", "p90", "number"),
    Column("cut", "cut", "percent", None, "ran into the token limit"),
    Column("accuracy", "accuracy", "percent"),
    Column("tokens_per_correct", "tokens / correct", "number", None, "all tokens said over right answers"),
]
_PAIRS = [
    Column("task", "task"),
    Column("target", "target"),
    Column("beside", "beside"),
    Column("prompts", "prompts", "count"),
    Column("tokens_ratio", "tokens", "ratio", None, "of an answer, over the other target's"),
    Column("tokens_verdict", "texts are"),
    Column("accuracy_difference", "accuracy", "points", None, "less the other target's"),
    Column("accuracy_verdict", "accuracy is"),
]


def section(groups: Sequence[Group]) -> Section | str:
    rows = [row for group in groups for row in _rows(group)]
    if not rows:
        return "no quality set"
    series: dict[str, list[Point]] = defaultdict(list)
    for target, task, method, _, mean, *_ in rows:
        if method == BASELINE:
            series[target].append(Point(task, mean.value, y_range=parts.bounds(mean)))
    notes = ["of the quality set; a lossless method writes as the baseline does, and is there where its recipe asks"]
    found: list[Chart | Table] = [
        Chart(
            "answer_tokens",
            "Tokens of an answer, plain decoding",
            "bars",
            "task",
            "tokens",
            [Series(target, points) for target, points in series.items()],
        ),
        Table("answer_tokens", "Tokens of an answer", _COLUMNS, rows, notes),
    ]
    pairs = _pairs(groups)
    if pairs:
        note = "plain decoding of two targets over the same problems, 95% paired bootstrap"
        found.append(Table("answer_tokens_paired", "Targets beside each other", _PAIRS, pairs, [note]))
    intro = (
        "Targets that were trained to reason at length (CoT) or in short drafts (CoD) differ in what an answer costs."
    )
    return Section("texts", "Tokens of an answer", intro, found)


def _rows(group: Group) -> list[list[Value]]:
    found: list[list[Value]] = []
    for point in group.points:
        answers = list(group.joined.answers.get(point.method, {}).values())
        if not answers:
            continue
        lengths = np.array([row.n_tokens for row in answers])
        found.append(
            [
                group.target,
                group.task,
                point.method,
                len(answers),
                parts.of_prompts((row.prompt_id, row.n_tokens, 1) for row in answers),
                *(float(np.percentile(lengths, p)) for p in (50, 90)),
                sum(row.finish == "length" for row in answers) / len(answers),
                point.accuracy,
                _per_correct(answers),
            ]
        )
    return found


def _per_correct(answers: Sequence[Record]) -> Value:
    judged = [row for row in answers if row.correct is not None]
    return parts.of_prompts((row.prompt_id, row.n_tokens, bool(row.correct)) for row in judged)


def _pairs(groups: Sequence[Group]) -> list[list[Value]]:
    """Each target beside the first that was asked the same, in the same way."""
    found: list[list[Value]] = []
    first: list[tuple[Group, Side]] = []
    for group in groups:
        mine = _side(group)
        others = (one for one in first if one[0].target != group.target and _asked(one[0]) == _asked(group))
        beside = next(others, None)
        if beside is None:
            first.append((group, mine))
            continue
        one = compare(beside[1], mine)
        if one.quality_n:
            found.append(
                [
                    group.task,
                    group.target,
                    beside[0].target,
                    one.quality_n,
                    one.tokens,
                    parts.said(one.tokens, 1.0, "longer", "shorter"),
                    one.accuracy,
                    parts.said(one.accuracy, 0.0, "higher", "lower"),
                ]
            )
    return found


def _asked(group: Group) -> tuple[str, dict[str, Any]]:
    """The task, and how texts are drawn; not how long they may get: of who needs more, `cut` says whether he had it."""
    sampling = group.joined.identity["sampling"]
    return group.joined.identity["task"]["type"], {key: sampling[key] for key in ("temperature", "top_k", "top_p")}


def _side(group: Group) -> Side:
    """Plain decoding's judged answers, with all their seeds."""
    answers = group.joined.answers.get(BASELINE, {})
    return Side({}, {question: row for question, row in answers.items() if row.correct is not None}, None)
