"""A study's cells as one table, its comparison as another, and two pictures over all cells."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # files only: no window, no display
from matplotlib import pyplot as plt  # noqa: E402

from toolkit.evaluation import table  # noqa: E402
from toolkit.evaluation.outdir import RESULTS
from toolkit.evaluation.paired import Paired  # noqa: E402
from toolkit.evaluation.plots import save  # noqa: E402
from toolkit.evaluation.records import Record  # noqa: E402
from toolkit.evaluation.score import ACCURACY  # noqa: E402
from toolkit.evaluation.stats import ENDLESS, Interval, verdict  # noqa: E402
from toolkit.evaluation.table import Table  # noqa: E402
from toolkit.export.figures import NONE, bounds, number, percent, share, times  # noqa: E402
from toolkit.files import finite  # noqa: E402

_SCORE = "score"  # stands for the metrics of several tasks, each of which is then named in its rows


@dataclass(frozen=True)
class Cell:
    """One combination, and the eval run in its directory."""

    values: tuple[str, ...]
    path: Path
    rows: Sequence[Record]

    @cached_property
    def results(self) -> dict[str, Any]:
        return json.loads((self.path / RESULTS).read_text())

    @property
    def metric(self) -> str | None:
        """What its task calls the share of right answers; None where nothing is judged."""
        return self.results.get("metric", ACCURACY)

    def methods(self) -> list[str]:
        return list(self.results["methods"])

    def speed(self, method: str) -> dict[str, Any]:
        return next((one for one in self.results["speed"] if one["method"] == method), {})

    def quality(self, method: str) -> dict[str, Any]:
        return next((one for one in self.results["quality"] if one["method"] == method), {})


def tables(axes: Sequence[str], cells: Sequence[Cell], pair: Any, comparisons: Sequence[dict]) -> list[Table]:
    """Quality, speed, and the comparison where there is one."""
    drawn = [_quality(axes, cells), _speed(axes, cells)]
    if comparisons:
        drawn.append(_compared([axis for axis in axes if axis != pair.axis], pair, comparisons))
    return [one for one in drawn if one.rows]


def _score(metrics: Iterable[str | None]) -> tuple[str, list[str]]:
    """What a table calls the share of right answers -> this, and the column that says a row's where tasks differ."""
    named = list(dict.fromkeys(metric for metric in metrics if metric)) or [ACCURACY]
    return (named[0], []) if len(named) == 1 else (_SCORE, ["metric"])


def _quality(axes: Sequence[str], cells: Sequence[Cell]) -> Table:
    score, which = _score(cell.metric for cell in cells)
    columns = [*axes, "method", *which, "n", f"{score} [95%]", "tokens", "cut", "last number only"]
    rows = []
    for cell in cells:
        for one in cell.results["quality"]:
            if not one["inherited"]:
                fallback = one["extraction"].get("last_number", 0) / one["n"] if one["n"] else None
                named = [one["method"], *(cell.metric or NONE for _ in which), str(one["n"])]
                shown = [_accuracy(one["accuracy"]), number(one["mean_tokens"], 0), percent(one["cut"])]
                rows.append([*cell.values, *named, *shown, percent(fallback)])
    note = "cut: share that ran into the token limit; such answers count as wrong"
    return Table("Quality (batched, never timed)", columns, rows, [note])


def _speed(axes: Sequence[str], cells: Sequence[Cell]) -> Table:
    columns = [*axes, "method", "n", "tok/s", "speedup [95%]", "tau", "accepted", "by position", "s/correct"]
    rows = []
    for cell in cells:
        for one in cell.results["speed"]:
            positions = " ".join(f"{share:.0%}" for share in one["unconditional"][:6]) or NONE
            rows.append(
                [
                    *cell.values,
                    one["method"],
                    str(one["n"]),
                    number(one["tokens_per_second"], 1),
                    _times(one["speedup"]),
                    number(one["tau"], 2),
                    percent(one["acceptance_rate"]),
                    positions,
                    number(one["seconds_per_correct"], 2),
                ]
            )
    notes = [
        "by position: share of all drafts whose first, second, ... token was accepted",
        "s/correct: prefill, and the quality set's tokens an answer at the pace after it, over its accuracy",
    ]
    return Table("Speed (batch as in the recipe, timed)", columns, rows, notes)


def _compared(axes: Sequence[str], pair: Any, comparisons: Sequence[dict]) -> Table:
    score, which = _score(one["metric"] for one in comparisons)
    columns = [*axes, "method", *which, score, "tokens", "acceptance", "tau", "s/correct", "AR ms/token"]
    rows, words = [], []
    for one in comparisons:
        acceptance, cost = one["acceptance"], one["seconds_per_correct"]
        figures = [_points(one["accuracy"]), _times(one["tokens"]), _points(acceptance), _plain(one["tau"])]
        pace = " / ".join(number(1000 * side, 1) for side in one["pace"]) if one["pace"] else NONE
        metric = one["metric"] or NONE
        rows.append([*one["cell"], one["method"], *(metric for _ in which), *figures, _times(cost), pace])
        words.append(
            f"{' '.join([*one['cell'], one['method']])}: {one['metric'] or score} {_answers(one['answers'])}; "
            f"acceptance {_words(acceptance, 0)}; seconds per correct answer {_words(cost, 1)}"
        )
    notes = [
        f"{pair.other} against {pair.base}, same problems, 95% paired bootstrap: {score} and acceptance in points, "
        "tau as difference, tokens and s/correct as ratio",
        "s/correct: seconds of the clock"
        if pair.unit == "seconds"
        else "s/correct: time in AR forwards of the cell itself, so that a machine that changed between cells cancels",
        *words,
    ]
    return Table(f"{pair.other} against {pair.base}", columns, rows, notes)


def as_json(source: str, axes: Sequence[str], cells: Sequence[Cell], comparisons: Sequence[dict]) -> dict[str, Any]:
    """Every figure of the tables, and the runs that they come from."""
    return {
        "recipe": source,
        "axes": list(axes),
        "cells": [
            {
                "values": list(cell.values),
                "results": str(cell.path / RESULTS),
                "recipe": cell.results["recipe"],
                "models": cell.results["models"],
                "methods": cell.results["methods"],
                "metric": cell.metric,
                "sessions": cell.results["sessions"],
                "speed": cell.results["speed"],
                "quality": cell.results["quality"],
                "equality": cell.results["equality"],
            }
            for cell in cells
        ],
        "comparisons": [finite(one) for one in comparisons],
    }


def pictures(out: Path, cells: Sequence[Cell]) -> None:
    """Acceptance by position and seconds per correct answer, a line and a bar each cell and method."""
    lines = [(cell, one) for cell in cells for one in cell.results["speed"] if one["conditional"]]
    if lines:
        figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
        for cell, one in lines:
            seen = [(i, share) for i, share in enumerate(one["conditional"], start=1) if share is not None]
            axes.plot(*zip(*seen, strict=True), marker="o", label=f"{' '.join(cell.values)}: {one['method']}")
        axes.set_ylim(0, 1.05)
        axes.set_xlabel("position in the draft")
        axes.set_ylabel("accepted, given all before it")
        axes.legend(fontsize=6, ncols=2)
        save(figure, out / "study_acceptance.png")
    bars = [(cell, one) for cell in cells for one in cell.results["speed"] if one["seconds_per_correct"]]
    if bars:
        figure, axes = plt.subplots(figsize=(8, 1.5 + 0.22 * len(bars)), layout="constrained")
        names = [f"{' '.join(cell.values)}: {one['method']}" for cell, one in bars]
        axes.barh(names, [one["seconds_per_correct"] for _, one in bars])
        axes.invert_yaxis()
        axes.set_xscale("log")
        axes.set_xlabel("seconds per correct answer (log)")
        axes.tick_params(labelsize=7)
        save(figure, out / "study_cost.png")


def show(drawn: Sequence[Table]) -> None:
    table.show(drawn, [])


def markdown(title: str, drawn: Sequence[Table]) -> str:
    return table.markdown(title, drawn, [])


def _words(found: dict[str, float] | None, nothing: float) -> str:
    return verdict(None if found is None else Interval(**found), nothing)


def _answers(found: dict[str, Any] | None) -> str:
    if found is None:
        return "not measured"
    return Paired(**found | {"difference": Interval(**found["difference"])}).said


def _accuracy(found: dict[str, float] | None) -> str:
    return NONE if found is None else share(**found)


def _points(found: dict[str, float] | None) -> str:
    return NONE if found is None else f"{100 * found['value']:+.1f} {_bounds(found, 100, '+.1f')}"


def _plain(found: dict[str, float] | None) -> str:
    return NONE if found is None else f"{found['value']:+.2f} {_bounds(found, 1, '+.2f')}"


def _times(found: dict[str, float] | None) -> str:
    return NONE if found is None else times(**_open_ended(found))


def _bounds(found: dict[str, float], scale: float, form: str) -> str:
    ended = _open_ended(found)
    return bounds(ended["low"], ended["high"], form, scale)


def _open_ended(found: dict[str, float]) -> dict[str, float]:
    endless = found["high"] is not None and found["high"] >= ENDLESS
    return found | {"high": math.inf} if endless else found
