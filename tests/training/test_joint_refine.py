"""No solution is worse than what was at hand: fixed windows, cascades, another kappa's rule, the rule it began with."""

import numpy as np
import pytest

from tests.training.test_jointadaspec import COUNTED, costs, records, simulated
from toolkit.training import joint_solve, jointadaspec, oracle, replay
from toolkit.training.joint_estimate import Price, Rule
from toolkit.training.joint_refine import _worth, refined
from toolkit.training.joint_solve import Settings, exact, play, solve
from toolkit.training.jointadaspec import JointAdaSpecRecipe


@pytest.fixture(scope="module")
def decoded():
    return simulated(60, 25)


def bumpy(limit=6):
    """Costs of a machine where a window of one token is the dearest, and windows of five and more are dear again."""
    smooth = costs(limit)
    verify = [ms + 8.0 * (k == 1) + 10.0 * (k >= 5) for k, ms in enumerate(smooth.verify_ms)]
    return type(smooth)(**(vars(smooth) | {"verify_ms": verify}))


def rule_of(known, seed):
    random = np.random.default_rng(seed)
    depth = np.arange(known.bins.states) % (known.bins.k_max + 1)
    stop = (random.random(known.bins.states) < 0.4) | (depth == known.bins.k_max)
    return Rule(stop, random.integers(0, 8, known.bins.states))


@pytest.mark.parametrize("draft", [0.3, 2.0, 6.0])
def test_an_exact_solution_is_no_slower_than_any_fixed_window(decoded, draft):
    for priced in (costs(6, draft=draft), bumpy()):
        known = records(decoded, priced=priced)
        found = solve(known, Price(0.0), Settings(), exact)
        assert (found.rule.lenient == 0).all()
        for k in range(known.bins.k_max + 1):
            assert found.played.pace >= oracle.fixed(decoded, priced, k).per_second / 1000 - 1e-9


def test_a_joint_solution_is_no_worse_than_a_cascade_or_another_kappas(decoded):
    recipe = JointAdaSpecRecipe(kappas=[0.0, 0.5, 1.0, 2.0, 5.0, 1e6], k_max=4)
    solved = jointadaspec.solutions(recipe, records(decoded))
    for kappa in recipe.kappas:
        own = solved["joint", kappa].played.worth(kappa)
        assert all(own >= other.played.worth(kappa) - 1e-9 for other in solved.values())
    assert solved["joint", 1e6].solution("joint", 1e6).exact
    assert solved["joint", 0.0].played.pace > 1.02 * solved["joint", 1e6].played.pace


def test_what_a_window_is_worth_is_what_replaying_it_gives(decoded):
    known, price, c_time, limit = records(decoded), Price(1.5), 0.04, 3
    rule = rule_of(known, 0)
    worth = _worth(known, rule, price, c_time, limit)
    choice = np.zeros(decoded.valid.shape, np.int64)
    choice[:, : known.bins.k_max] = rule.lenient[known.states[:, : known.bins.k_max]]
    gained = replay.expected(decoded, choice) - 1.5 * replay.divergence(decoded, choice)
    for k in range(limit + 1):
        tokens, ms = replay.outcomes(decoded, gained, np.full(len(decoded), k), known.costs, looked=True, limit=limit)
        assert np.allclose(worth[:, k], tokens - c_time * ms, atol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_refining_never_plays_worse(decoded, seed):
    """At the price of time that a rule plays at, its refinement is worth as much, so its ratio is no lower."""
    known, price, k_max = records(decoded, smoothing=COUNTED), Price(0.5), 4
    rule = rule_of(known, seed)
    before = play(decoded, known.states, rule, k_max, known.costs)
    limit = joint_solve.longest(rule, k_max)
    choosable = np.arange(known.bins.states) % (k_max + 1) < limit
    better = refined(known, rule, price, before.worth(0.5), choosable, limit)
    after = play(decoded, known.states, better, k_max, known.costs)
    assert after.worth(0.5) > before.worth(0.5)  # a random rule is easy to better
    assert (better.lenient == rule.lenient).all()
    assert (better.stop == rule.stop)[~choosable].all()
