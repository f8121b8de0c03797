"""Intervals against known values and against what they promise."""

import math
import tracemalloc

import numpy as np
import pytest

from toolkit.evaluation import stats
from toolkit.evaluation.stats import (
    ENDLESS,
    Interval,
    Pair,
    ends,
    mcnemar,
    ratio,
    resampled,
    speedup,
    verdict,
    wilson,
)


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


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (1, 0), (0, 6), (3, 3), (4, 2), (12, 3), (5, 20)])
def test_mcnemar_is_the_binomial_written_out(lost, gained):
    n = lost + gained
    ways = [math.comb(n, i) for i in range(n + 1)]
    assert mcnemar(lost, gained) == pytest.approx(sum(w for w in ways if w <= ways[lost]) / 2**n)
    assert mcnemar(lost, gained) == pytest.approx(mcnemar(gained, lost))


def test_mcnemar_of_a_textbook():
    # Agresti (2013), Categorical Data Analysis, 11.1.4: 86 and 150 discordant answers; far beyond chance
    assert mcnemar(86, 150) < 1e-4
    assert mcnemar(118, 118) == 1.0


def test_a_true_null_is_seldom_refused():
    """At most 5% of the time, as the test is exact: 12 answers that differ, each side as likely."""
    rng = np.random.default_rng(2)
    refused = sum(mcnemar(lost, 12 - lost) <= 0.05 for lost in rng.binomial(12, 0.5, size=2000).tolist())
    assert 0 < refused / 2000 <= 0.06


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (-0.1, 0.1, "no difference shown"),
        (0.0, 0.1, "no difference shown"),
        (0.1, 0.2, "higher"),
        (-0.2, -0.1, "lower"),
        (math.nan, math.nan, "no difference shown"),
    ],
)
def test_an_interval_says_no_more_than_it_rules_out(low, high, said):
    assert verdict(Interval(0.1, low, high), 0.0) == said


def test_what_was_not_measured_has_no_verdict():
    assert verdict(None, 0.0) == "not measured"


@pytest.mark.parametrize(("n", "known"), [(1, False), (4, False), (5, True)])
def test_few_prompts_give_a_difference_and_no_bounds(n, known):
    found = ratio([(1, 1)] * n)
    assert (found.value, math.isfinite(found.low)) == (1.0, known)
    assert (verdict(found, 0.0) == "higher") == known


def test_nothing_to_divide_by():
    assert ratio([]) is None
    assert ratio([(3, 0)] * 9) is None


def test_a_ratio_that_a_resample_may_not_have_is_open_at_one_end():
    """Tokens a right answer, where one of ten is right: a third of the resamples has none."""
    found = ratio([(50, 1), *[(50, 0)] * 9])
    assert found.value == 500 and 100 < found.low < 500 and found.high == ENDLESS


@pytest.mark.parametrize("endless", [math.inf, math.nan])
def test_between_a_figure_and_what_has_no_end_is_nothing(endless):
    draws = np.array([1.0] * 1950 + [endless] * 50)  # the upper bound falls between the two
    assert ends(draws, 10**6) == (1.0, ENDLESS)
    assert ends(np.array([1.0] * 1960 + [endless] * 40), 10**6) == (1.0, 1.0)


@pytest.mark.parametrize(("blocks", "least"), [(5, 0.89), (12, 0.925)])
def test_bounds_of_few_blocks_hold_the_truth(blocks, least):
    """Plain percentiles do so 83 and 91 times in 100."""
    rng = np.random.default_rng(7)
    samples = rng.normal(10, 1, size=(600, blocks))
    counts = [np.stack([sample, np.ones(blocks)], axis=1) for sample in samples]
    held = np.mean([found.low <= 10 <= found.high for found in map(ratio, counts)])
    assert least <= held <= 0.98


def gathered(table, resamples, seed):
    """[n, c] -> [resamples, c]: the bootstrap written out, rows gathered one resample after the other."""
    rng = np.random.default_rng(seed)
    return np.array([table[rng.integers(len(table), size=len(table))].sum(axis=0) for _ in range(resamples)])


@pytest.mark.parametrize("at_once", [2**22, 1000])
def test_the_bootstrap_is_the_one_written_out(monkeypatch, at_once):
    """Up to the noise of its draws; whether they are drawn all at once or 16 at a time."""
    monkeypatch.setattr(stats, "_AT_ONCE", at_once)
    stats._drawn.cache_clear()
    table = np.random.default_rng(3).gamma(2.0, size=(60, 2))
    sums, other = resampled(table), gathered(table, 20_000, seed=4)
    expected = np.quantile(other[:, 0] / other[:, 1], [0.025, 0.975])
    found = ratio(table)
    width = expected[1] - expected[0]
    assert (found.low, found.high) == pytest.approx(expected, abs=0.08 * width)
    assert sums.shape == (2000, 2) and len(np.unique(sums[:, 0])) == 2000, "no resample is there twice"
    assert sums.std(axis=0) == pytest.approx(other.std(axis=0), rel=0.06)
    assert resampled(np.ones((60, 1))).tolist() == [[60.0]] * 2000, "each is of as many rows"
    stats._drawn.cache_clear()


def test_tables_of_one_seed_are_drawn_alike():
    table = np.random.default_rng(5).random((2, 9, 3))
    both = resampled(table, 50)
    assert both.shape == (2, 50, 3)
    for one, alone in zip(both, table, strict=True):
        assert one == pytest.approx(resampled(alone, 50))
    assert not np.allclose(resampled(table[0], 50, seed=1), both[0])


def test_a_long_table_is_resampled_in_bounded_memory():
    table = np.ones((200_000, 2))  # all counts at once would take 320 MB
    tracemalloc.start()
    try:
        assert resampled(table, 200).shape == (200, 2)
        assert tracemalloc.get_traced_memory()[1] < 256e6
    finally:
        tracemalloc.stop()
        stats._drawn.cache_clear()
