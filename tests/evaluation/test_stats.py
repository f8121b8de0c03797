"""Intervals against known values and against what they promise."""

import math

import numpy as np
import pytest

from toolkit.evaluation.stats import Pair, speedup, wilson


# Newcombe (1998), Statistics in Medicine 17, table I, method 3 (Wilson's score)
@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_is_newcombes_table(successes, n, low, high):
    interval = wilson(successes / n, n)
    assert (interval.low, interval.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_wilson_of_nothing_knows_nothing():
    assert (wilson(0.0, 0).low, wilson(0.0, 0).high) == (0.0, 1.0)


@pytest.mark.parametrize("n", [1, 6, 1000])
def test_wilson_holds_its_share(n):
    assert wilson(0.0, n).low == 0.0
    assert wilson(1.0, n).high == 1.0


def test_a_constant_speedup_has_no_width():
    pairs = [Pair(10 * n, 1.0 * n, 10 * n, 2.0 * n) for n in (1, 2, 5, 7, 9)]
    interval = speedup(pairs)
    assert (interval.value, interval.low, interval.high) == pytest.approx((2.0, 2.0, 2.0))


def test_the_speedup_is_a_ratio_of_sums():
    interval = speedup([Pair(10, 1.0, 10, 1.0), Pair(30, 1.0, 10, 3.0)])
    assert interval.value == pytest.approx((40 / 2) / (20 / 4))


def test_pairing_cancels_what_slows_both():
    rng = np.random.default_rng(0)
    hard = rng.lognormal(sigma=1.0, size=24)  # a prompt that is slow for one is slow for the other
    paired = speedup([Pair(50, h, 50, 1.5 * h) for h in hard])
    shuffled = speedup([Pair(50, h, 50, 1.5 * other) for h, other in zip(hard, rng.permutation(hard), strict=True)])
    assert paired.high - paired.low < 1e-9
    assert shuffled.high - shuffled.low > 0.3


def test_the_interval_covers_the_truth():
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(300):
        noise = rng.lognormal(sigma=0.3, size=(24, 2))
        interval = speedup([Pair(50, a, 50, 1.4 * b) for a, b in noise], resamples=400, seed=trial)
        covered += interval.low <= 1.4 <= interval.high
    assert 0.88 <= covered / 300 <= 0.99  # 95% is what a large sample would give


@pytest.mark.parametrize(("n", "known"), [(1, False), (4, False), (5, True)])
def test_few_blocks_give_a_value_and_no_bounds(n, known):
    interval = speedup([Pair(10, 1.0 + i, 10, 2.0) for i in range(n)])
    assert interval.value == pytest.approx(2.0 * n / sum(1.0 + i for i in range(n)))
    assert [math.isfinite(bound) for bound in (interval.low, interval.high)] == [known, known]


def test_no_block_no_speedup():
    assert speedup([]) is None
