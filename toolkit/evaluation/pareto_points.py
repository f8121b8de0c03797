"""Joined evals as points of speed and accuracy, with what is known of each and of their front.

Speedups are over the baseline timed beside the method, accuracies those of the quality set; a lossless method has the
baseline's. The bootstrap of the hypervolume draws prompts, the same for all methods, and finds their front anew.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from toolkit.evaluation.joined import Joined
from toolkit.evaluation.paired import Paired, Question, paired
from toolkit.evaluation.pareto import at_speed, dominates, hypervolume
from toolkit.evaluation.records import Record
from toolkit.evaluation.score import BASELINE, Quality, Speed, inherit, pairs, quality_summary, speed_summary
from toolkit.evaluation.stats import FEWEST_BLOCKS, Interval, ends, resampled
from toolkit.evaluation.timed import accepts_everything

LOSSLESS = "lossless"  # all that is, of whatever grid, as one family: its front is its fastest


@dataclass(frozen=True)
class Point:
    """A method. Without a speed or an accuracy it has no place in the picture."""

    method: str
    family: str  # the name of its grid, or its own
    values: dict[str, Any]  # its cell's
    lossless: bool
    control: bool  # accepts everything
    quality: Quality | None
    speed: Speed | None
    speedup: Interval | None
    paired: Paired | None  # beside the baseline; None of lossless methods
    untimed: str | None  # why there is no speed

    @property
    def accuracy(self) -> Interval | None:
        return self.quality.accuracy if self.quality else None

    @property
    def calls(self) -> float | None:
        """The target's forwards after prefill, an emitted token, in the speed set: where a gate asks, its fallbacks."""
        return self.speed.rounds / self.speed.tokens if self.speed and self.speed.tokens else None

    @property
    def placed(self) -> bool:
        return self.speedup is not None and self.accuracy is not None

    @property
    def xy(self) -> tuple[float, float]:
        return self.speedup.value, self.accuracy.value


def points(joined: Joined) -> list[Point]:
    """Every method, in the recipes' order."""
    base = list(joined.answers.get(BASELINE, {}).values())
    plain = quality_summary(base, base) if base else None
    found = []
    for name, method in joined.methods.items():
        grid, lossless = method["grid"], method["lossless"]
        own = list(joined.answers.get(name, {}).values())
        quality = inherit(name, plain) if lossless and plain else None
        if own:
            quality = quality_summary(own, base)
        speed = speed_summary(*joined.timed[name]) if name in joined.timed else None
        speedup = speed.speedup if speed else None
        if speed and name == BASELINE and speed.tokens_per_second:
            speedup = Interval(1.0, 1.0, 1.0)
        found.append(
            Point(
                method=name,
                family=grid["name"] if grid else name,
                values=grid["values"] if grid else {},
                lossless=lossless,
                control=accepts_everything(method),
                quality=quality,
                speed=speed,
                speedup=speedup,
                paired=quality.paired if quality and not lossless else None,
                untimed=joined.untimed.get(name),
            )
        )
    return found


def dominated(placed: Sequence[Point]) -> dict[str, Point]:
    """Who is not on the front -> the fastest point on it that dominates him."""
    beaten = dominates(np.array([point.xy for point in placed]).reshape(-1, 2))  # [n, n]: by whom, who
    ahead = ~beaten.any(0)
    found = {}
    for j in np.flatnonzero(~ahead):
        winners = [placed[i] for i in np.flatnonzero(beaten[:, j] & ahead)]
        found[placed[j].method] = max(winners, key=lambda point: point.xy)
    return found


def overlap(one: Point, other: Point) -> list[str]:
    """In what the intervals of the two overlap, so that the order of the estimates may be chance."""
    sides = {"speed": (one.speedup, other.speedup), "accuracy": (one.accuracy, other.accuracy)}
    # a bound that is not known (NaN) rules nothing out
    return [what for what, (a, b) in sides.items() if not (a.low > b.high or b.low > a.high)]


@dataclass(frozen=True)
class Volume:
    """The hypervolume of some of the points."""

    of: str  # everything, or a family
    points: int
    value: float
    low: float
    high: float


def volumes(joined: Joined, placed: Sequence[Point], reference: tuple[float, float]) -> list[Volume]:
    """Of all points, and of each family of two or more."""
    families = dict.fromkeys(point.family for point in placed)
    groups = {"everything": list(range(len(placed)))}
    groups |= {family: [i for i, point in enumerate(placed) if point.family == family] for family in families}
    draws, prompts = _resampled(joined, placed) if placed else (None, 0)
    found = []
    for name, members in groups.items():
        if len(members) < 2:
            continue
        low = high = float("nan")
        if draws is not None:
            low, high = ends(np.array([hypervolume(draw, reference) for draw in draws[:, members]]), prompts)
        value = hypervolume(np.array([placed[i].xy for i in members]), reference)
        found.append(Volume(name, len(members), value, float(low), float(high)))
    return found


@dataclass(frozen=True)
class AtTheSpeedOf:
    """A method, and what a family's front has at its speed."""

    reference: Point
    family: str  # a lossy grid, or LOSSLESS
    interpolated: float | None
    cell: Point | None  # at least as fast, and of those the most accurate; None: the family is nowhere as fast
    paired: Paired | None  # the method's answers beside the cell's


def at_the_speed_of(joined: Joined, placed: Sequence[Point], names: Iterable[str]) -> list[AtTheSpeedOf]:
    """Each named point beside each other lossy family of two or more, and beside all that is lossless."""
    by_name = {point.method: point for point in placed}
    families: dict[str, list[Point]] = defaultdict(list)
    for point in placed:
        families[point.family].append(point)
    lossy = {
        family: members
        for family, members in families.items()
        if len(members) > 1 and not all(point.lossless for point in members)
    }
    lossless = [point for point in placed if point.lossless]
    found = []
    for reference in (by_name[name] for name in names if name in by_name):
        for family, members in (lossy | {LOSSLESS: lossless}).items():
            if reference in members or family == reference.family:
                continue
            there = at_speed(np.array([point.xy for point in members]).reshape(-1, 2), reference.speedup.value)
            cell = None if there.cell is None else members[there.cell]
            beside = paired(*(joined.answers_of(one.method) for one in (reference, cell))) if cell else None
            found.append(AtTheSpeedOf(reference, family, there.accuracy, cell, beside))
    return found


def _resampled(joined: Joined, placed: Sequence[Point]) -> tuple[np.ndarray | None, int]:
    """[R, n, 2] speedups and accuracies, prompts drawn anew (None: too few to say anything), and of how many."""
    blocks = [_blocks(*joined.timed[point.method]) for point in placed]
    answers = [_shares(joined.answers_of(point.method)) for point in placed]
    timed = sorted({key for one in blocks for key in one})
    asked = sorted({key for one in answers for key in one})
    prompts = min(len(timed), len(asked))
    if prompts < FEWEST_BLOCKS:
        return None, prompts
    # a block that a method lacks is drawn for the others; alone it would be 0 / 0, and in no front
    pace = np.array([[one.get(key, (0, 0, 0, 0)) for key in timed] for one in blocks], dtype=float)  # [n, blocks, 4]
    right = np.array([[one.get(key, (0, 0)) for key in asked] for one in answers], dtype=float)  # [n, prompts, 2]
    tokens, seconds, base_tokens, base_seconds = np.moveaxis(resampled(pace), -1, 0)  # [n, R] each
    hits, answered = np.moveaxis(resampled(right, seed=1), -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        draws = np.stack([tokens / seconds / (base_tokens / base_seconds), hits / answered], -1)
    return draws.swapaxes(0, 1), prompts


def _blocks(rows: Sequence[Record], baseline: Sequence[Record]) -> dict[tuple[str, ...], tuple[float, ...]]:
    """By its prompts, what a block took with the method and with the baseline; the baseline beside itself is 1."""
    sides: list[dict[int, list[Record]]] = [defaultdict(list), defaultdict(list)]
    for blocks, side in zip(sides, (rows, baseline), strict=True):
        for row in side:
            blocks[row.block].append(row)
    found = {}
    for index, mine in sides[0].items():
        for pair in pairs(mine, sides[1].get(index, [])):
            prompts = tuple(sorted({row.prompt_id for row in mine}))
            found[prompts] = (pair.tokens, pair.seconds, pair.base_tokens, pair.base_seconds)
    return found


def _shares(answers: dict[Question, Record]) -> dict[str, tuple[int, int]]:
    """By prompt: right answers, answers."""
    found: dict[str, tuple[int, int]] = {}
    for (prompt, _), row in answers.items():
        if row.correct is not None:
            right, n = found.get(prompt, (0, 0))
            found[prompt] = (right + row.correct, n + 1)
    return found
