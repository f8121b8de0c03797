"""Conditions on records that are made to meet them, or not."""

import numpy as np
import pytest
from scipy import stats

from toolkit.training import conditions, conditions_chain
from toolkit.training.conditions import Means, Occasions
from toolkit.training.conditions_chain import Moves

SHAPE = (4, 3, 3)
NAMES = ["stop", "continue T=1", "continue T=2"]


def made(reward, each=6, after=lambda h, k: (h, k), seed=0):
    """Every state visited `each` times by as many requests; reward(h, kl, k) -> one an action, with a little noise."""
    random = np.random.default_rng(seed)
    h, kl, k = (axis.repeat(each) for axis in np.unravel_index(np.arange(np.prod(SHAPE)), SHAPE))
    rewards = np.stack(np.broadcast_arrays(*reward(h, kl, k), h)[:-1], axis=1).astype(float)
    following = np.stack(np.broadcast_arrays(*after(h, kl)), axis=1).astype(float)
    return Occasions(
        state=np.ravel_multi_index((h, kl, k), SHAPE),
        uncertainty=np.stack([h, kl], axis=1).astype(float),
        after=np.stack([following, following], axis=1) + 0.01 * random.normal(size=(len(h), 2, 1)),
        reward=rewards + 0.001 * random.normal(size=(len(h), 1)),
        request=np.tile(np.arange(each), np.prod(SHAPE)),
    )


def verdicts(judged):
    return {one.about: one.verdict for one in judged}


def test_rewards_that_fall_and_rewards_that_rise():
    found = conditions.rewards_fall(Means(made(lambda h, kl, k: (-h - kl, h + kl, -h + kl))), SHAPE, NAMES)
    assert verdicts(found) == {
        "stop, H": "pass",
        "stop, K_prev": "pass",
        "continue T=1, H": "fail",
        "continue T=1, K_prev": "fail",
        "continue T=2, H": "pass",
        "continue T=2, K_prev": "fail",
    }
    assert all((one.judged, one.possible) == (36, 36) for one in found)


def test_what_a_reward_loses_with_k_is_not_taken_for_what_it_loses_with_h():
    """Deep places are visited by confident windows, and pay little: over all places the reward rises with H."""
    records = made(lambda h, kl, k: (0 * h, 4 * (2 - k) - h, -h - kl - 4 * k))
    kept = (records.uncertainty[:, 0] + records.state % SHAPE[2] - 2) ** 2 <= 1  # H + k is about the same
    one = Occasions(**{name: value[kept] for name, value in vars(records).items()})
    means = Means(one)
    pooled = conditions.spearman(means.uncertainty[:, 0], means.reward[:, :, 1])[0]
    found = conditions.rewards_fall(means, SHAPE, NAMES)
    assert pooled > 0.3 and found[2].about == "continue T=1, H"
    assert (found[2].verdict, found[2].value) == ("pass", pytest.approx(-0.95, abs=0.06))


def test_the_mean_over_places_is_weighted_by_states_and_leaves_out_what_is_too_few():
    x = np.array([0.0, 1, 2, 3, 0, 1, 2, 0, 1])
    y = np.array([[0.0, 1, 2, 3, 2, 1, 0, 5, 9], [0, 1, 2, 3, np.nan, 1, 0, 5, 9]])
    mean, judged = conditions.by_depth(x, y, np.repeat([0, 1, 2], [4, 3, 2]))
    assert mean == pytest.approx([(4 * 1 + 3 * -1) / 7, 1.0]) and judged == 7
    none, judged = conditions.by_depth(x, 0 * y, np.zeros(9))
    assert np.isnan(none).all() and judged == 0


def test_a_reward_that_never_changes_is_undecided():
    records = made(lambda h, kl, k: (0 * h, -h, -h))
    records.reward[:, 0] = 1.0
    found = conditions.rewards_fall(Means(records), SHAPE, NAMES)[0]
    assert found.verdict == "undecided" and np.isnan(found.value)


def test_only_pairs_with_enough_records_are_judged():
    records = made(lambda h, kl, k: (-h, -h, -h))
    records.reward[records.request < 2, 2] = np.nan  # 4 of 6 records left for the last action
    found = conditions.rewards_fall(Means(records), SHAPE, NAMES)
    assert [(one.judged, one.possible) for one in found] == [(36, 36)] * 4 + [(0, 36)] * 2
    assert verdicts(found)["continue T=2, H"] == "undecided"


def test_uncertain_states_are_followed_by_uncertain_ones_or_not():
    lasting = conditions.uncertainty_lasts(Means(made(lambda h, kl, k: (h, h, h))))
    turning = conditions.uncertainty_lasts(Means(made(lambda h, kl, k: (h, h, h), after=lambda h, kl: (-h, -kl))))
    assert verdicts(lasting) == {"stop": "pass", "continue": "pass"}
    assert verdicts(turning) == {"stop": "fail", "continue": "fail"}


def test_after_a_continuation_the_next_entropy_alone_is_judged():
    """K_prev' is K_prev then: with its large values it would make any H' pass."""
    records = made(lambda h, kl, k: (h, h, h), after=lambda h, kl: (-h, 100 * kl))
    found = verdicts(conditions.uncertainty_lasts(Means(records)))
    assert found == {"stop": "pass", "continue": "fail"}


def test_boxes_by_state():
    """stop -> continue gains with every step (increasing differences); T=1 -> T=2 loses with H alone."""
    found = conditions.boxes_by_state(Means(made(lambda h, kl, k: (0, h + kl + k, kl + k))), SHAPE, NAMES)
    first, second = found
    boxes = 3 * 3 * 3 + 4 * 2 * 3 + 4 * 3 * 2
    assert (first.verdict, first.value, first.judged, first.possible, first.trivial) == ("pass", 1.0, boxes, boxes, 0)
    assert (second.verdict, second.value, second.judged, second.trivial) == ("fail", 0.0, 27, boxes - 27)


def test_boxes_by_lenience():
    rising = conditions.boxes_by_lenience(Means(made(lambda h, kl, k: (0, h, h + 1))), NAMES)
    equal = conditions.boxes_by_lenience(Means(made(lambda h, kl, k: (0, h, h))), NAMES)
    falling = conditions.boxes_by_lenience(Means(made(lambda h, kl, k: (0, h, h - 1))), NAMES)
    assert [(one.about, one.verdict) for one in rising] == [("continue T=1 / continue T=2", "pass")]
    assert [one.verdict for one in falling] == ["fail"]
    assert [(one.verdict, one.judged, one.trivial) for one in equal] == [("undecided", 0, 36)]


def test_steps_go_to_the_next_bin_only():
    here, there = conditions._steps(np.array([0, 1, 3, 9]), SHAPE)  # k+1 of 0; K_prev+1 of 0; H+1 of 0
    assert list(zip(here, there, strict=True)) == [(0, 3), (0, 2), (0, 1)]


def test_spearman_is_that_of_scipy_and_leaves_out_what_is_not_known():
    random = np.random.default_rng(0)
    x, y = random.normal(size=20).round(1), random.normal(size=(3, 20)).round(1)  # with ties
    y[1, :5], y[2, 2:] = np.nan, np.nan
    found = conditions.spearman(x, y)
    assert found[0] == pytest.approx(stats.spearmanr(x, y[0]).statistic)
    assert found[1] == pytest.approx(stats.spearmanr(x[5:], y[1, 5:]).statistic)
    assert np.isnan(found[2])


def walks(chance, requests=6, steps=2000, seed=0):
    """Moves of a two-state chain per kind of action: chance[kind][state] of going to state 1."""
    random = np.random.default_rng(seed)
    n = requests * steps
    state = random.integers(2, size=n)
    after = np.stack([random.random(n) < np.take(chance[kind], state) for kind in range(2)], axis=1).astype(int)
    return Moves(state, after, np.ones(n, dtype=bool), np.arange(n) % requests)


def test_stationary_mass_of_a_known_chain():
    """Stop in state 0 (to 1 with 0.2), continue in state 1 (stays with 0.6): mass 2/3, 1/3."""
    chain = conditions_chain.stationary(walks([[0.2, 0.9], [0.5, 0.6]]), np.array([0, 1]))
    assert chain.mass[0] == pytest.approx([2 / 3, 1 / 3], abs=0.02)
    assert chain.converged.all() and chain.steps < 60 and chain.unknown == 0.0
    assert chain.mass.sum(1) == pytest.approx(np.ones(len(chain.mass)))


def test_a_state_without_a_successor_goes_on_as_rounds_begin():
    moves = walks([[0.5, 0.5], [0.5, 0.5]])
    moves.after[moves.state == 1, 0] = -1
    chain = conditions_chain.stationary(moves, np.array([0, 0]))
    assert chain.mass[0] == pytest.approx([0.5, 0.5], abs=0.02) and chain.unknown == pytest.approx(0.5, abs=0.02)


def test_where_cascades_do_otherwise():
    joint = np.array([0, 1])
    chain = conditions_chain.stationary(walks([[0.2, 0.9], [0.5, 0.6]]), joint)
    other = conditions_chain.difference(joint, np.array([0, 2]), "length_then_verif", chain)
    assert (other.n1, other.n2, other.differing, other.judged, other.share) == ("pass", "pass", 1, 2, 0.5)
    assert other.mass == pytest.approx(1 / 3, abs=0.02) and other.mass_low < other.mass < other.mass_high
    same = conditions_chain.difference(joint, joint, "length_then_verif", chain)
    assert (same.n1, same.n2, same.differing, same.mass) == ("fail", "fail", 0, 0.0)


def test_a_chain_that_does_not_settle_is_undecided():
    """Rounds of one place that take turns between two states, begun unevenly: back and forth for ever."""
    moves = walks([[1.0, 0.0], [1.0, 0.0]])
    uneven = Moves(moves.state, moves.after, (moves.state == 0) | (np.arange(len(moves.state)) % 3 == 0), moves.request)
    chain = conditions_chain.stationary(uneven, np.array([0, 0]))
    found = conditions_chain.difference(np.array([0, 0]), np.array([0, 1]), "length_then_verif", chain)
    assert not found.converged and (found.n1, found.n2) == ("pass", "undecided") and np.isnan(found.mass)


def test_windows_of_one_length_settle_as_a_step_is_a_round():
    """Three places, always in the same order; a round begins in the first."""
    state = np.tile([0, 1, 2], 200)
    after = np.stack([np.zeros(600, dtype=int), np.where(state < 2, state + 1, -1)], axis=1)
    chain = conditions_chain.stationary(Moves(state, after, state == 0, np.arange(600) // 60), np.array([1, 1, 0]))
    assert chain.converged.all() and chain.mass[0] == pytest.approx([1 / 3] * 3)
