"""Paired comparison of two runs: what it says of equal runs, of better ones, and of too few prompts."""

import math

import numpy as np
import pytest

from tests.evaluation.rows import row
from toolkit.evaluation.compare import Side, compare
from toolkit.evaluation.stats import verdict


def side(n, seconds=1.0, accepted=2, right=(), tokens=10, lossless=True, more=()):
    """n prompts, timed with a draft of 4 tokens a round, judged by their number."""
    windows = [(4, accepted)] * 4
    timed = [row("draft", f"p{i}", tokens=8, seconds=seconds, windows=windows, lossless=lossless) for i in range(n)]
    judged = [row("baseline", f"p{i}", tokens=tokens, set="quality", correct=i in right) for i in range(n)]
    return Side.of([*timed, *judged, *more], "draft")


def test_equal_runs_show_no_difference():
    found = compare(side(20, right=range(10)), side(20, right=range(10)))
    assert (found.accuracy.value, found.acceptance.value) == (0.0, 0.0)
    assert found.seconds_per_correct.value == pytest.approx(1.0)
    assert verdict(found.accuracy, 0) == "no difference shown"
    assert verdict(found.seconds_per_correct, 1) == "no difference shown"


def test_a_faster_run_with_the_same_answers_costs_less():
    found = compare(side(20, right=range(10)), side(20, seconds=0.5, accepted=3, right=range(10)))
    assert found.seconds_per_correct.value == pytest.approx(0.5)
    assert verdict(found.seconds_per_correct, 1) == "lower"
    assert found.acceptance.value == pytest.approx(1 / 4)
    assert verdict(found.acceptance, 0) == "higher"


def test_pairing_cancels_what_makes_a_prompt_hard():
    # the same ten problems of 20 are right on both sides, and one more: unpaired, that is far within noise
    alike = compare(side(20, right=range(10)), side(20, right=range(10)))
    better = compare(side(20, right=range(5)), side(20, right=range(15)))
    assert alike.accuracy.high - alike.accuracy.low == 0
    assert better.accuracy.low > 0.2


def test_more_tokens_cost_their_decoding_and_one_prefill():
    found = compare(side(20, right=range(10)), side(20, right=range(10), tokens=20))
    assert found.tokens.value == pytest.approx(2.0)
    # 0.1 s of prefill, then 0.9 s / 8 tokens for each of 20 and of 10
    assert found.seconds_per_correct.value == pytest.approx((0.1 + 20 * 0.9 / 8) / (0.1 + 10 * 0.9 / 8))


def test_a_machine_that_got_slower_cancels_in_forwards():
    plain = [row("baseline", f"p{i}", tokens=8, seconds=2.0) for i in range(20)]
    slower = [row("baseline", f"p{i}", tokens=8, seconds=4.0) for i in range(20)]
    fast, slow = (side(20, seconds=s, right=range(10), more=rows) for s, rows in ((1.0, plain), (2.0, slower)))
    assert compare(fast, slow).seconds_per_correct.value == pytest.approx(2.0)
    found = compare(fast, slow, unit="forwards")
    assert found.seconds_per_correct.value == pytest.approx(1.0)
    assert found.pace == pytest.approx((1.8 / 8, 3.6 / 8))


def test_without_a_right_answer_there_is_no_cost():
    found = compare(side(20), side(20, right=range(10)))
    assert found.seconds_per_correct is None
    assert verdict(None, 1) == "not measured"


def test_a_side_with_almost_no_right_answers_has_an_open_interval():
    found = compare(side(20, right=range(10)), side(20, right=[3]))
    assert found.seconds_per_correct.high > 1e9  # a resample without the one right answer costs without end
    assert not math.isnan(found.seconds_per_correct.low)


def test_only_prompts_that_both_ran_count():
    found = compare(side(20, right=range(10)), side(12, right=range(10)))
    assert (found.speed_n, found.quality_n) == (12, 12)


def test_answers_are_counted_in_pairs_for_mcnemar():
    found = compare(side(20, right=range(10)), side(20, right=range(3, 15)))
    assert (found.answers.n, found.answers.lost, found.answers.gained) == (20, 3, 5)
    assert found.answers.p == pytest.approx(2 * (1 + 8 + 28 + 56) / 2**8)  # 3 or fewer heads of 8, and the other tail
    assert found.answers.difference.value == pytest.approx(found.accuracy.value) == pytest.approx(0.1)
    assert found.answers.said == "no difference shown (McNemar p = 0.73, of 8 answers that differ)"
    better = compare(side(20), side(20, right=range(10)))
    assert better.answers.said == "higher (McNemar p = 0.002, of 10 answers that differ)"


def test_too_few_prompts_show_no_difference_however_large():
    found = compare(side(4), side(4, seconds=0.1, accepted=3, right=range(4)))
    for one, nothing in ((found.accuracy, 0), (found.tau, 0), (found.acceptance, 0), (found.tokens, 1)):
        assert math.isnan(one.low) and math.isnan(one.high)
        assert verdict(one, nothing) == "no difference shown"
    assert found.acceptance.value == pytest.approx(1 / 4)
    assert found.answers.verdict == "no difference shown"  # p = 1/8: four answers cannot show one


def of_seeds(right, tokens, seeds=(0, 1)):
    """Twelve prompts, whose answers with a seed are all right or wrong, and equally long."""
    windows = [(4, 2)] * 4
    timed = [row("draft", f"p{i}", tokens=8, windows=windows, seed=s) for i in range(12) for s in seeds]
    judged = [
        row("baseline", f"p{i}", tokens=tokens[s], set="quality", correct=right[s], seed=s, temperature=1.0)
        for i in range(12)
        for s in seeds
    ]
    return Side.of([*timed, *judged], "draft")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_several_seeds_of_a_prompt_count_alike(order):
    """Neither the first nor the last of them stands for all."""
    found = compare(of_seeds((True, False), (10, 20), order), of_seeds((True, True), (10, 80), order))
    assert (found.accuracy.value, found.accuracy.low) == (0.5, 0.5)
    assert found.tokens.value == pytest.approx(90 / 30)
    assert (found.speed_n, found.quality_n, found.answers.n, found.answers.p) == (12, 12, 24, None)
    assert found.answers.difference.value == found.accuracy.value
    alone = compare(of_seeds((True, False), (10, 20), (1,)), of_seeds((True, True), (10, 80), order))
    assert (alone.accuracy.value, alone.tokens.value) == (1.0, 4.0), "beside the seed that both ran"


def test_the_cost_is_resampled_as_if_it_were_written_out():
    rng = np.random.default_rng(0)
    sides, tables = [], []
    for shift in (0.0, 0.3):
        seconds, accepted = rng.uniform(1 + shift, 3, 40), rng.integers(0, 5, 40)
        right, said = rng.random(40) < 0.5 + shift, rng.integers(10, 90, 40)
        rows = [
            row("draft", f"p{i}", tokens=8, seconds=seconds[i], windows=[(4, int(accepted[i]))] * 4) for i in range(40)
        ]
        rows += [
            row("baseline", f"p{i}", tokens=int(said[i]), set="quality", correct=bool(right[i])) for i in range(40)
        ]
        sides.append(Side.of(rows, "draft"))
        tables.append((seconds, accepted, right, said))
    costs, accepted = [], []
    for _ in range(4000):
        timed, judged = rng.integers(40, size=(2, 40))
        some = [
            (0.1 * s[timed].mean() + 0.9 * s[timed].sum() / 320 * said[judged].mean()) / right[judged].mean()
            for s, _, right, said in tables
        ]
        costs.append(some[1] / some[0])
        accepted.append((tables[1][1][timed].mean() - tables[0][1][timed].mean()) / 4)
    found = compare(*sides)
    for one, draws in ((found.seconds_per_correct, costs), (found.acceptance, accepted)):
        low, high = np.quantile(draws, [0.025, 0.975])
        assert (one.low, one.high) == pytest.approx((low, high), abs=0.12 * (high - low))
