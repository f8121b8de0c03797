"""Intervals: Wilson's for a share, a paired bootstrap for a ratio of speeds; and McNemar's test of paired answers.

Intervals are 95% by default. The bootstrap resamples blocks of prompts, each carrying the method's and the baseline's
tokens and seconds together, so what makes a prompt slow for both cancels out of the ratio.
"""

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
    picks = np.random.default_rng(seed).integers(len(pairs), size=(resamples, len(pairs)))
    low, high = np.quantile(_ratio(table[picks].sum(axis=1)), [0.025, 0.975])
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
    sums = changes[np.random.default_rng(seed).integers(n, size=(resamples, n))].sum(axis=1)
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
