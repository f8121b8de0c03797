"""Dominance, hypervolume, a front at a speed, and McNemar's test, against brute force and by hand."""

import numpy as np
import pytest
from scipy.stats import binomtest

from toolkit.evaluation.pareto import AtSpeed, at_speed, dominates, front, hypervolume
from toolkit.evaluation.stats import mcnemar, ratio


@pytest.mark.parametrize("width", [2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_dominance_by_definition(seed, width):
    """Of few integers, so that many points are equal, or equal in one column."""
    points = np.random.default_rng(seed).integers(4, size=(25, width)).astype(float)
    found = dominates(points)
    for i, one in enumerate(points.tolist()):
        for j, other in enumerate(points.tolist()):
            least = all(a >= b for a, b in zip(one, other, strict=True))
            assert found[i, j] == (least and one != other)
    kept = front(points)
    assert kept.any() and not kept.all()
    assert all(kept[j] == (not found[:, j].any()) for j in range(len(points)))


def test_equal_points_are_both_on_the_front():
    assert front(np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 1.9]])).tolist() == [True, True, False]


def test_who_is_not_known_is_on_no_front_and_beats_nobody():
    points = np.array([[np.nan, 9.0], [1.0, 1.0], [9.0, np.nan]])
    assert front(points).tolist() == [False, True, False]
    assert hypervolume(points, (0.0, 0.0)) == 1.0


@pytest.mark.parametrize("reference", [(0.0, 0.0), (3.0, 2.0)])
@pytest.mark.parametrize("seed", range(5))
def test_hypervolume_counts_squares(seed, reference):
    """Of integer points the area is a number of unit squares: those with a point beyond their middle."""
    points = np.random.default_rng(seed).integers(1, 12, size=(8, 2)).astype(float)
    squares = [(x + 0.5, y + 0.5) for x in range(12) for y in range(12) if x >= reference[0] and y >= reference[1]]
    covered = sum(any(px > x and py > y for px, py in points.tolist()) for x, y in squares)
    assert hypervolume(points, reference) == covered


def test_hypervolume_by_hand():
    points = np.array([[2.0, 0.5], [1.5, 0.8], [1.4, 0.7], [0.9, 0.95], [3.0, -0.1]])
    # beyond (1, 0): 1 x 0.5, and of the second point what is above: 0.5 x 0.3
    assert hypervolume(points, (1.0, 0.0)) == pytest.approx(0.5 + 0.15)
    assert hypervolume(points[3:], (1.0, 0.0)) == 0.0
    assert hypervolume(np.empty((0, 2)), (1.0, 0.0)) == 0.0


def test_a_front_at_a_speed():
    points = np.array([[2.0, 0.6], [1.2, 0.8], [1.4, 0.5], [1.6, 0.7]])  # the third is below the fourth
    assert at_speed(points, 1.6) == AtSpeed(3, pytest.approx(0.7))
    assert at_speed(points, 1.4) == AtSpeed(3, pytest.approx(0.75))
    assert at_speed(points, 1.7) == AtSpeed(0, pytest.approx(0.675))
    assert at_speed(points, 1.0) == AtSpeed(1, pytest.approx(0.8))
    assert at_speed(points, 2.1) == AtSpeed(None, None)


def test_mcnemar_is_the_exact_binomial():
    for lost in range(12):
        for gained in range(12):
            expected = binomtest(lost, lost + gained).pvalue if lost + gained else 1.0
            assert mcnemar(lost, gained) == pytest.approx(expected)
    assert mcnemar(900, 1100) == pytest.approx(binomtest(900, 2000).pvalue)  # no overflow


def test_a_paired_difference():
    assert ratio([]) is None
    none = ratio([(0, 1)] * 30)
    assert (none.value, none.low, none.high) == (0.0, 0.0, 0.0)
    # 10 of 40 lost: a share's interval, about 0.25 +- 1.96 sqrt(0.25 0.75 / 40)
    lost = ratio([(-1, 1)] * 10 + [(0, 1)] * 30)
    assert lost.value == -0.25
    assert (lost.low, lost.high) == (pytest.approx(-0.384, abs=0.03), pytest.approx(-0.116, abs=0.03))
    # two seeds of a prompt count as one draw of it
    twice = ratio([(-2, 2)] * 10 + [(0, 2)] * 30)
    assert (twice.low, twice.high) == (lost.low, lost.high)
