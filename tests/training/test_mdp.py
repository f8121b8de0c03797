"""Value iteration against a problem solved by hand, and against exact policy iteration on random ones."""

import numpy as np
import pytest
from scipy import sparse

from toolkit.errors import UserError
from toolkit.training.mdp import value_iteration

DISCOUNT, TOLERANCE = 0.9, 1e-6


def exact_value(rewards, transitions, uses, policy, discount):
    """Of a policy: (I - discount P) V = R."""
    row = np.arange(len(rewards))
    moves = np.stack([transitions[uses[action]][state] for state, action in zip(row, policy, strict=True)])
    return np.linalg.solve(np.eye(len(rewards)) - discount * moves, rewards[row, policy])


def policy_iteration(rewards, transitions, uses, valid, discount):
    policy = valid.argmax(1)
    while True:
        value = exact_value(rewards, transitions, uses, policy, discount)
        q = np.stack([rewards[:, a] + discount * transitions[m] @ value for a, m in enumerate(uses)], 1)
        q = np.where(valid, q, -np.inf)
        better = q.max(1) > q[np.arange(len(q)), policy] + 1e-12
        if not better.any():
            return value
        policy = np.where(better, q.argmax(1), policy)


def as_sparse(transitions):
    return [sparse.csr_array(matrix) for matrix in transitions]


def test_a_problem_solved_by_hand():
    """Stay for 1, or move to the state that pays 2 for good: 0 + 0.9 * 2 / 0.1 = 18 beats 1 / 0.1 = 10."""
    stay, move = np.eye(2), np.array([[0.0, 1.0], [0.0, 1.0]])
    rewards = np.array([[1.0, 0.0], [2.0, 2.0]])
    found = value_iteration(rewards, as_sparse([stay, move]), [0, 1], np.ones((2, 2), bool), DISCOUNT, TOLERANCE)
    assert found.value == pytest.approx([18.0, 20.0], abs=1e-4)
    assert found.policy.tolist() == [1, 0]  # of the second state's equal actions, the lowest
    assert found.q[0] == pytest.approx([1 + 0.9 * 18, 18], abs=1e-4)


def test_what_is_not_allowed_is_not_done():
    stay, move = np.eye(2), np.array([[0.0, 1.0], [0.0, 1.0]])
    rewards = np.array([[1.0, 0.0], [2.0, 99.0]])
    valid = np.array([[True, False], [True, False]])
    found = value_iteration(rewards, as_sparse([stay, move]), [0, 1], valid, DISCOUNT, TOLERANCE)
    assert found.policy.tolist() == [0, 0] and found.q[:, 1].tolist() == [-np.inf, -np.inf]
    assert found.value == pytest.approx([10.0, 20.0], abs=1e-4)


def test_a_state_without_an_action_is_refused():
    valid = np.array([[True], [False]])
    with pytest.raises(UserError, match="state 1"):
        value_iteration(np.zeros((2, 1)), as_sparse([np.eye(2)]), [0], valid, DISCOUNT)


@pytest.mark.parametrize("seed", range(50))
def test_random_problems_against_policy_iteration(seed):
    random = np.random.default_rng(seed)
    n, uses = int(random.integers(2, 40)), [0, 1, 1, 2, 1]
    transitions = random.dirichlet(np.full(n, 0.2), size=(3, n))
    rewards, valid = random.normal(size=(n, 5)), random.random((n, 5)) < 0.7
    valid[np.arange(n), random.integers(5, size=n)] = True
    discount = random.choice([0.5, 0.9, 0.99])
    start = random.normal(size=n) * 10  # any beginning will do
    found = value_iteration(rewards, as_sparse(transitions), uses, valid, discount, TOLERANCE, start=start)
    assert valid[np.arange(n), found.policy].all()
    within = TOLERANCE / (1 - discount)
    optimum = policy_iteration(rewards, transitions, uses, valid, discount)
    assert np.abs(found.value - optimum).max() <= within
    own = exact_value(rewards, transitions, uses, found.policy, discount)  # what its policy is worth
    assert np.abs(own - optimum).max() <= 2 * within


def test_iterations_are_bounded():
    found = value_iteration(np.ones((1, 1)), as_sparse([np.eye(1)]), [0], np.ones((1, 1), bool), 0.999, most=7)
    assert found.iterations == 7
