"""Value iteration for a Markov decision process whose actions share a few sparse transition matrices.

Actions that lead to the same states differ in their reward alone, so an iteration needs one product a matrix, not one
an action: the best reward among a matrix's actions is found once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from toolkit.errors import UserError


@dataclass(frozen=True)
class Solution:
    value: np.ndarray  # [n]
    q: np.ndarray  # [n, A]; -inf for an action that is not allowed
    policy: np.ndarray  # [n] int: the best action, the lowest of equals
    iterations: int


def value_iteration(
    rewards: np.ndarray,
    transitions: Sequence[sparse.csr_array],
    uses: Sequence[int],
    valid: np.ndarray,
    discount: float,
    tolerance: float = 1e-4,
    most: int = 10_000,
    start: np.ndarray | None = None,
) -> Solution:
    """Iterate V <- max_a R_a + discount P_a V until no value changes by `tolerance`.

    rewards, valid: [n, A]; transitions: [n, n] each, rows sum to 1; uses: the matrix of each action; start: V before
    the first iteration. The value is then within tolerance * discount / (1 - discount) of the optimum.
    """
    if not valid.any(1).all():
        raise UserError(f"decision problem: state {int((~valid.any(1)).argmax())} has no action that is allowed")
    n, uses = len(rewards), np.asarray(uses)
    allowed = np.where(valid, rewards, -np.inf)
    best = np.stack([allowed[:, uses == matrix].max(1) for matrix in range(len(transitions))])  # [M, n]
    stacked = sparse.vstack(list(transitions), format="csr")
    value = np.zeros(n) if start is None else start
    iterations, change = 0, np.inf
    while change >= tolerance and iterations < most:
        after = (best + discount * (stacked @ value).reshape(best.shape)).max(0)
        change = np.abs(after - value).max()
        value, iterations = after, iterations + 1
    future = (stacked @ value).reshape(best.shape)[uses].T  # [n, A]
    q = allowed + discount * future
    return Solution(q.max(1), q, q.argmax(1), iterations)
