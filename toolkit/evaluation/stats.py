"""Intervals: Wilson's for a share, a paired bootstrap for a ratio of speeds; and McNemar's test of paired answers.

Intervals are 95% by default. The bootstrap resamples blocks of prompts, each carrying the method's and the baseline's
tokens and seconds together, so what makes a prompt slow for both cancels out of the ratio. Its bounds are expanded
percentiles (Hesterberg 2015, "What Teachers Should Know About the Bootstrap"): plain ones are too close for few blocks.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr
from scipy.stats import binomtest, t

RESAMPLES = 2000
FEWEST_BLOCKS = 5  # resampling fewer says nothing of the prompts that were not drawn
SURE = 0.05  # a p above it shows no difference
NO_DIFFERENCE = "no difference shown"
_AT_ONCE = 2**22  # counts of draws: 32 MiB
ENDLESS = 1e12  # stands for a ratio without end, which JSON cannot say


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
    """[..., n, c] -> [..., resamples, c]: sums over n of the rows, drawn with replacement, and alike for all tables.

    Two tables of one seed are drawn alike where they have as many rows: what is not paired takes another seed. Memory
    stays bounded, however long the table.
    """
    n = table.shape[-2]
    step = max(1, _AT_ONCE // n)
    parts = [_drawn(n, min(step, resamples - first), seed, first) @ table for first in range(0, resamples, step)]
    return np.concatenate(parts, axis=-2)


@functools.lru_cache(maxsize=4)  # some sets of prompts: all methods are resampled alike
def _drawn(n: int, resamples: int, seed: int, first: int) -> np.ndarray:
    """[resamples, n]: how often each of n was drawn. To sum by these is several times faster than to gather rows.

    first: how many resamples there were before, of which these are independent.
    """
    rng = np.random.default_rng([seed, first] if first else seed)
    picks = rng.integers(n, size=(resamples, n)) + n * np.arange(resamples)[:, None]
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
    value = float(_speedups(table.sum(axis=0)))
    if len(pairs) < FEWEST_BLOCKS:
        return Interval(value, math.nan, math.nan)
    return Interval(value, *ends(_speedups(resampled(table, resamples, seed)), len(pairs)))


def ratio(counts: Sequence[tuple[float, float]] | np.ndarray) -> Interval | None:
    """Of two sums, over and under: a share, a mean, or by how much two accuracies differ. Rows are resampled whole.

    None where there is nothing to divide by; no bounds (NaN) below `FEWEST_BLOCKS`.
    """
    table = np.array(counts, dtype=np.float64).reshape(-1, 2)
    over, under = table.sum(axis=0)
    if not under:
        return None
    value = float(over / under)
    if len(table) < FEWEST_BLOCKS:
        return Interval(value, math.nan, math.nan)
    sums = resampled(table)
    with np.errstate(divide="ignore", invalid="ignore"):
        return Interval(value, *ends(sums[:, 0] / sums[:, 1], len(table)))


def ends(draws: np.ndarray, n: int) -> tuple[float, float]:
    """Bounds of 95% from the draws of n blocks; a draw that had nothing to divide by counts as endless.

    Resamples of n spread sqrt((n - 1) / n) as much as they should, and by a normal law, not by Student's: so more than
    95% of them are between (99.8% of 5 blocks, 96.5% of 24, 95.1% of 1,000).
    """
    beyond = float(ndtr(-math.sqrt(n / (n - 1)) * t.ppf(0.975, n - 1)))
    known = np.nan_to_num(draws, nan=ENDLESS, posinf=ENDLESS)
    # nothing is between a figure and what has no end
    low, high = np.quantile(known, [beyond, 1 - beyond], method="higher" if known.max() >= ENDLESS else "linear")
    return float(low), float(high)


def mcnemar(lost: int, gained: int) -> float:
    """Exact two-sided p: is it chance to which side the answers fell that only one of two methods had right?"""
    return float(binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0


def verdict(interval: Interval | None, nothing: float) -> str:
    """`nothing`: the value that means no difference, which bounds that are not known do not rule out."""
    if interval is None:
        return "not measured"
    if interval.low > nothing:
        return "higher"
    return "lower" if interval.high < nothing else NO_DIFFERENCE


def _speedups(sums: np.ndarray) -> np.ndarray:
    tokens, seconds, base_tokens, base_seconds = np.moveaxis(sums, -1, 0)
    return (tokens / seconds) / (base_tokens / base_seconds)
