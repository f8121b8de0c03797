"""Two runs over the same problems, with paired bootstrap intervals: is one better, and by how much?

A prompt is resampled with both runs' results on it, so what makes a problem hard for both cancels. An interval that
holds 0 (a difference) or 1 (a ratio) shows no difference, and `stats.verdict` says so; below `FEWEST_BLOCKS` prompts
there is none. Answers are also counted in pairs, for McNemar's test.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.evaluation.paired import Paired, by_question, paired
from toolkit.evaluation.records import Record
from toolkit.evaluation.score import BASELINE
from toolkit.evaluation.stats import FEWEST_BLOCKS, RESAMPLES, Interval, ends


@dataclass(frozen=True)
class Side:
    """A method's timed rows and the quality rows that stand for its answers (its own, or AR's where it is exact)."""

    speed: dict[str, Record]  # by prompt id; each decoded alone and once
    quality: dict[str, Record]
    pace: float | None  # seconds of a target forward after prefill, as plain AR had them in the same run

    @classmethod
    def of(cls, rows: Sequence[Record], method: str) -> "Side":
        timed = {row.prompt_id: row for row in rows if row.set == "speed" and row.method == method and row.ok}
        judged = [row for row in rows if row.set == "quality" and row.ok and row.correct is not None]
        exact = all(row.lossless for row in timed.values())
        source = BASELINE if exact and not any(row.method == method for row in judged) else method
        plain = [row for row in rows if row.set == "speed" and row.method == BASELINE and row.ok]
        spent = sum(row.times["total"] - row.times["prefill"] for row in plain)
        pace = spent / sum(row.rounds for row in plain) if plain else None
        return cls(timed, {row.prompt_id: row for row in judged if row.method == source}, pace)


@dataclass(frozen=True)
class Comparison:
    """other against base; None where a set was not run."""

    accuracy: Interval | None  # difference
    tokens: Interval | None  # ratio of the tokens an answer
    acceptance: Interval | None  # difference of the share of proposed tokens that were accepted
    tau: Interval | None  # difference of emitted tokens a target forward
    seconds_per_correct: Interval | None  # ratio
    pace: tuple[float, float] | None  # seconds of an AR forward on either side
    speed_n: int
    quality_n: int
    answers: Paired | None  # the same accuracies by McNemar's test


def compare(base: Side, other: Side, unit: str = "seconds", seed: int = 0) -> Comparison:
    """Over the prompts that both ran. `unit` of time: seconds, or AR forwards of each side's own run."""
    timed = sorted(base.speed.keys() & other.speed.keys())
    judged = sorted(base.quality.keys() & other.quality.keys())
    rng = np.random.default_rng(seed)
    fast = [_speed_table([side.speed[key] for key in timed]) for side in (base, other)]
    good = [_quality_table([side.quality[key] for key in judged]) for side in (base, other)]
    picks = [rng.integers(max(n, 1), size=(RESAMPLES, n)) for n in (len(timed), len(judged))]
    accuracy = tokens = acceptance = tau = cost = None
    if judged:
        accuracy = _difference(*(_over(table, picks[1], 0, 2) for table in good))
        tokens = _ratio(*(_over(table, picks[1], 1, 2) for table in good))
    if timed:
        tau = _difference(*(_over(table, picks[0], 0, 3) for table in fast))
        if all(table[:, 4].sum() for table in fast):
            acceptance = _difference(*(_over(table, picks[0], 5, 4) for table in fast))
    if timed and judged and all(table[:, 0].sum() for table in good):
        units = [1.0 if unit == "seconds" else side.pace for side in (base, other)]
        cost = _ratio(*(_cost(*tables, picks) for tables in zip(fast, good, units, strict=True)))
    pace = (base.pace, other.pace) if timed and base.pace and other.pace else None
    answers = paired(*(by_question(side.quality.values()) for side in (other, base)))
    return Comparison(accuracy, tokens, acceptance, tau, cost, pace, len(timed), len(judged), answers)


def tau_of(side: Side, seed: int = 0) -> Interval | None:
    """Emitted tokens a target forward, resampled by prompt; None where nothing was timed."""
    if not side.speed:
        return None
    table = _speed_table([side.speed[key] for key in sorted(side.speed)])
    picks = np.random.default_rng(seed).integers(len(table), size=(RESAMPLES, len(table)))
    return _interval(*_over(table, picks, 0, 3))


_Draws = tuple[float, np.ndarray]  # the figure itself, and its resamples; NaN all of them: too few prompts


def _speed_table(rows: Sequence[Record]) -> np.ndarray:
    """[n, 6]: tokens, seconds of prefill, seconds after it, rounds, proposed, accepted."""
    return np.array(
        [
            [r.n_tokens, r.times["prefill"], r.times["total"] - r.times["prefill"], r.rounds, r.proposed, r.accepted]
            for r in rows
        ],
        dtype=float,
    )


def _quality_table(rows: Sequence[Record]) -> np.ndarray:
    """[n, 3]: right or not, tokens, 1."""
    return np.array([[bool(r.correct), r.n_tokens, 1] for r in rows], dtype=float)


def _over(table: np.ndarray, picks: np.ndarray, above: int, below: int) -> _Draws:
    """A ratio of two columns' sums."""
    sums = table[picks].sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        value, draws = float(table[:, above].sum() / table[:, below].sum()), sums[:, above] / sums[:, below]
    return value, draws if len(table) >= FEWEST_BLOCKS else np.full_like(draws, np.nan)


def _cost(fast: np.ndarray, good: np.ndarray, unit: float, picks: list[np.ndarray]) -> _Draws:
    """Time per correct answer, as `score.per_correct` has it: (prefill + pace x tokens) / accuracy."""
    ones = np.c_[fast, np.ones(len(fast))]
    prefill, some_prefill = _over(ones, picks[0], 1, 6)
    pace, some_pace = _over(ones, picks[0], 2, 0)
    tokens, some_tokens = _over(good, picks[1], 1, 2)
    right, some_right = _over(good, picks[1], 0, 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        draws = (some_prefill + some_pace * some_tokens) / some_right / unit
    return (prefill + pace * tokens) / right / unit, draws


def _difference(base: _Draws, other: _Draws) -> Interval:
    return _interval(other[0] - base[0], other[1] - base[1])


def _ratio(base: _Draws, other: _Draws) -> Interval:
    with np.errstate(divide="ignore", invalid="ignore"):
        return _interval(other[0] / base[0], other[1] / base[1])


def _interval(value: float, draws: np.ndarray) -> Interval:
    """A resample without a single right answer costs infinitely much, and counts as that."""
    return Interval(value, np.nan, np.nan) if np.isnan(draws).all() else Interval(value, *ends(draws))
