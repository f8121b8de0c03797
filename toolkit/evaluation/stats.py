"""Intervals: Wilson's for a share, a paired bootstrap for a ratio of speeds; and McNemar's test of paired answers.

Intervals are 95% by default. The bootstrap resamples blocks of prompts, each carrying the method's and the baseline's
tokens and seconds together, so what makes a prompt slow for both cancels out of the ratio.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

RESAMPLES = 2000
FEWEST_BLOCKS = 5  # resampling fewer says nothing of the prompts that were not drawn
SURE = 0.05  # a p above it shows no difference
NO_DIFFERENCE = "no difference shown"


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95% bounds; bounds that are NaN are not known."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Pair:
    """One block of prompts, decoded by a method and by the baseline."""

    tokens: int
    seconds: float
    base_tokens: int
    base_seconds: float


def resampled(table: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """[n, c] -> [resamples, c]: sums over n of its rows, drawn with replacement."""
    return drawn(len(table), resamples, seed) @ table


@functools.lru_cache(maxsize=4)  # some sets of prompts: all methods are resampled alike
def drawn(n: int, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """[resamples, n]: how often each of n was drawn. To sum by these is several times faster than to gather rows."""
    picks = np.random.default_rng(seed).integers(n, size=(resamples, n)) + n * np.arange(resamples)[:, None]
    return np.bincount(picks.ravel(), minlength=n * resamples).reshape(resamples, n).astype(np.float64)


def wilson(share: float, n: int, z: float = 1.959964) -> Interval:
    """Wilson's score interval for `share` of n independent trials; n = 0 knows nothing."""
    if n == 0:
        return Interval(math.nan, 0.0, 1.0)
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # at 0 and 1 a bound is the share itself, but for rounding
    return Interval(share, max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half)))


def speedup(pairs: Sequence[Pair], resamples: int = RESAMPLES, seed: int = 0) -> Interval | None:
    """Method tokens/s over baseline tokens/s: a ratio of sums, resampled by block.

    None without a block; no bounds (NaN) below `FEWEST_BLOCKS`.
    """
    if not pairs:
        return None
    table = np.array([[p.tokens, p.seconds, p.base_tokens, p.base_seconds] for p in pairs], dtype=np.float64)
    value = float(_ratio(table.sum(axis=0)))
    if len(pairs) < FEWEST_BLOCKS:
        return Interval(value, math.nan, math.nan)
    low, high = np.quantile(_ratio(resampled(table, resamples, seed)), [0.025, 0.975])
    return Interval(value, float(low), float(high))


def mcnemar(lost: int, gained: int) -> float:
    """Exact two-sided p: is it chance to which side the answers fell that only one of two methods had right?"""
    return float(binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0


def difference(changes: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> Interval | None:
    """Of two methods' accuracies, prompts resampled with both answers on them.

    None without a prompt; no bounds (NaN) below `FEWEST_BLOCKS`.
    changes: [n, 2] a prompt: right answers that the one has more than the other, and answers of either.
    """
    n = len(changes)
    if n == 0:
        return None
    value = float(changes[:, 0].sum() / changes[:, 1].sum())
    if n < FEWEST_BLOCKS:
        return Interval(value, math.nan, math.nan)
    sums = resampled(changes, resamples, seed)
    low, high = np.quantile(sums[:, 0] / sums[:, 1], [0.025, 0.975])
    return Interval(value, float(low), float(high))


def verdict(interval: Interval | None, nothing: float) -> str:
    """`nothing`: the value that means no difference, which bounds that are not known do not rule out."""
    if interval is None:
        return "not measured"
    if interval.low > nothing:
        return "higher"
    return "lower" if interval.high < nothing else NO_DIFFERENCE


def _ratio(sums: np.ndarray) -> np.ndarray:
    tokens, seconds, base_tokens, base_seconds = np.moveaxis(sums, -1, 0)
    return (tokens / seconds) / (base_tokens / base_seconds)
