"""Two runs over the same problems, with paired bootstrap intervals: is one better, and by how much?

Answers are paired by prompt and seed, and those of a prompt added up: seeds are no independent prompts. A prompt is
resampled with both runs' results on it, so what makes a problem hard for both cancels. An interval that holds 0 (a
difference) or 1 (a ratio) shows no difference, and `stats.verdict` says so; below `FEWEST_BLOCKS` prompts there is
none. Answers are also counted in pairs, for McNemar's test.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.evaluation.paired import Paired, Question, beside, by_question, paired
from toolkit.evaluation.records import Record
from toolkit.evaluation.score import BASELINE
from toolkit.evaluation.stats import FEWEST_BLOCKS, Interval, ends, resampled


@dataclass(frozen=True)
class Side:
    """A method's timed rows and the quality rows that stand for its answers (its own, or AR's where it is exact)."""

    speed: Mapping[Question, Record]  # each decoded alone and once
    quality: Mapping[Question, Record]  # with a verdict
    pace: float | None  # seconds of a target forward after prefill, as plain AR had them in the same run

    @classmethod
    def of(cls, rows: Sequence[Record], method: str) -> "Side":
        timed = by_question(row for row in rows if row.set == "speed" and row.method == method)
        judged = [row for row in rows if row.set == "quality" and row.ok and row.correct is not None]
        exact = all(row.lossless for row in timed.values())
        source = BASELINE if exact and not any(row.method == method for row in judged) else method
        plain = [row for row in rows if row.set == "speed" and row.method == BASELINE and row.ok]
        spent = sum(row.times["total"] - row.times["prefill"] for row in plain)
        pace = spent / sum(row.rounds for row in plain) if plain else None
        return cls(timed, by_question(row for row in judged if row.method == source), pace)


@dataclass(frozen=True)
class Comparison:
    """other against base; None where a set was not run."""

    accuracy: Interval | None  # difference
    tokens: Interval | None  # ratio of the tokens an answer
    acceptance: Interval | None  # difference of the share of proposed tokens that were accepted
    tau: Interval | None  # difference of emitted tokens a target forward
    seconds_per_correct: Interval | None  # ratio
    pace: tuple[float, float] | None  # seconds of an AR forward on either side
    speed_n: int  # prompts
    quality_n: int
    answers: Paired | None  # the same accuracies by McNemar's test


def compare(base: Side, other: Side, unit: str = "seconds") -> Comparison:
    """Over what both ran. `unit` of time: seconds, or AR forwards of each side's own run."""
    fast = _sums(base.speed, other.speed, _speed_columns, seed=0)
    good = _sums(base.quality, other.quality, _quality_columns, seed=1)  # other prompts: drawn on their own
    accuracy = tokens = acceptance = tau = cost = None
    if good:
        accuracy = _difference(*(one.over(_RIGHT, _ANSWERS) for one in good))
        tokens = _ratio(*(one.over(_SAID, _ANSWERS) for one in good))
    if fast:
        tau = _difference(*(one.over(_TOKENS, _ROUNDS) for one in fast))
        if all(one.whole[_PROPOSED] for one in fast):
            acceptance = _difference(*(one.over(_ACCEPTED, _PROPOSED) for one in fast))
    if fast and good and all(one.whole[_RIGHT] for one in good):
        units = [1.0 if unit == "seconds" else side.pace for side in (base, other)]
        cost = _ratio(*(_cost(*sides) for sides in zip(fast, good, units, strict=True)))
    pace = (base.pace, other.pace) if fast and base.pace and other.pace else None
    answers = paired(other.quality, base.quality)
    sizes = [sides[0].prompts if sides else 0 for sides in (fast, good)]
    return Comparison(accuracy, tokens, acceptance, tau, cost, pace, *sizes, answers)


def tau_of(side: Side) -> Interval | None:
    """Emitted tokens a target forward, resampled by prompt; None where nothing was timed."""
    found = _sums(side.speed, side.speed, _speed_columns, seed=0)
    return _interval(*found[0].over(_TOKENS, _ROUNDS)) if found else None


_Draws = tuple[float, np.ndarray, int]  # the figure itself, its resamples (all NaN: too few prompts), and of how many
_TOKENS, _PREFILL, _AFTER, _ROUNDS, _PROPOSED, _ACCEPTED, _ROWS = range(7)  # columns of the speed set
_RIGHT, _SAID, _ANSWERS = range(3)  # and of the quality set


def _speed_columns(row: Record) -> list[float]:
    prefill = row.times["prefill"]
    return [row.n_tokens, prefill, row.times["total"] - prefill, row.rounds, row.proposed, row.accepted, 1]


def _quality_columns(row: Record) -> list[float]:
    return [bool(row.correct), row.n_tokens, 1]


@dataclass(frozen=True)
class _Sums:
    """The columns of one side, added up over its prompts."""

    prompts: int
    whole: np.ndarray  # [c]
    drawn: np.ndarray  # [R, c] of the resamples; NaN: too few prompts for these to say anything

    def over(self, above: int, below: int) -> _Draws:
        """A ratio of two columns."""
        with np.errstate(divide="ignore", invalid="ignore"):
            value = float(self.whole[above] / self.whole[below])
            return value, self.drawn[:, above] / self.drawn[:, below], self.prompts


def _sums(
    base: Mapping[Question, Record],
    other: Mapping[Question, Record],
    columns: Callable[[Record], list[float]],
    seed: int,
) -> list[_Sums]:
    """Of both sides, over the answers that both have; [] where there is none."""
    found: dict[str, list[list[list[float]]]] = defaultdict(list)  # by prompt, and then [seeds, 2, c]
    for prompt, here, there in beside(base, other):
        found[prompt].append([columns(here), columns(there)])
    if not found:
        return []
    table = np.stack([np.sum(answers, axis=0) for answers in found.values()], axis=1)  # [2, prompts, c]
    whole, n = table.sum(axis=1), len(found)
    drawn = resampled(table, seed=seed) if n >= FEWEST_BLOCKS else np.full((2, 1, table.shape[-1]), np.nan)
    return [_Sums(n, whole[side], drawn[side]) for side in (0, 1)]


def _cost(fast: _Sums, good: _Sums, unit: float) -> _Draws:
    """Time per correct answer, as `score.per_correct` has it: (prefill + pace x tokens) / accuracy."""
    prefill, some_prefill, n = fast.over(_PREFILL, _ROWS)
    pace, some_pace, _ = fast.over(_AFTER, _TOKENS)
    tokens, some_tokens, m = good.over(_SAID, _ANSWERS)
    right, some_right, _ = good.over(_RIGHT, _ANSWERS)
    with np.errstate(divide="ignore", invalid="ignore"):
        draws = (some_prefill + some_pace * some_tokens) / some_right / unit
    return (prefill + pace * tokens) / right / unit, draws, min(n, m)


def _difference(base: _Draws, other: _Draws) -> Interval:
    return _interval(other[0] - base[0], other[1] - base[1], base[2])


def _ratio(base: _Draws, other: _Draws) -> Interval:
    with np.errstate(divide="ignore", invalid="ignore"):
        return _interval(other[0] / base[0], other[1] / base[1], base[2])


def _interval(value: float, draws: np.ndarray, n: int) -> Interval:
    """A resample without a single right answer costs infinitely much, and counts as that."""
    return Interval(value, np.nan, np.nan) if np.isnan(draws).all() else Interval(value, *ends(draws, n))
