"""JointAdaSpec by brute force: K_prev as it follows from what was emitted, and the exact law under T by state.

K_prev is the mean KL(q||p) over the last window's places up to and including its first rejection. All of them stand
behind committed text, so the lengths of the windows and the tokens that came out say what it was.
"""

import functools
from collections.abc import Sequence

import numpy as np
from scipy.special import entr

from tests.decode import chances, exact, learned, rounds
from tests.decode.compose import KAPPAS, Case
from tests.decode.models import ALIVE, VOCAB


class Lag:
    """What the policy knows of the rounds before, row by row: the bin of K_prev, 0 for policies that know nothing."""

    def __init__(self, case: Case, prompt: exact.Prompt, rows: int) -> None:
        self.case, self.prompt = case, prompt
        self.k_prev = np.zeros(rows)

    def bins(self) -> np.ndarray:
        return learned.lag(self.k_prev) if self.case.length in KAPPAS else np.zeros(len(self.k_prev), dtype=np.int64)

    def observe(self, start: np.ndarray, behind: Sequence[np.ndarray], proposed: np.ndarray, seen: np.ndarray) -> None:
        """A round that began at start [n]; behind: by place, the context [n] of its token; seen [n] places count."""
        if self.case.length not in KAPPAS:
            return
        total = np.zeros(len(start))
        for place in range(int(seen.max(initial=0))):
            # What was seen further on matters to rounds only that `chances` leaves out
            for began in range(chances.LEVELS - self.case.window - place):
                rows = (start == began) & (seen > place)
                if rows.any():
                    total[rows] += chances.kl(self.case, self.prompt, began, began + place)[behind[place][rows]]
        self.k_prev = np.where(proposed > 0, total / np.maximum(seen, 1), self.k_prev)


def rule(kappa: float, k_prev: float) -> rounds.Rule:
    """Of a round at temperature 1, where q is the raw law. A stop is a place that accepts nothing and corrects to p."""

    def split(p: np.ndarray, q: np.ndarray, place: int) -> rounds.Split:
        multiplier = learned.lenience(entr(q).sum(-1), learned.lag(np.array(k_prev)), place, kappa)[:, None]
        accepted = np.minimum(q, multiplier * p)
        residual = np.where(multiplier > 0, rounds.residual(p, accepted), p)
        return accepted, (1.0 - accepted.sum(-1, keepdims=True)) * residual

    return split


@functools.cache
def emitted(case: Case, prompt: exact.Prompt) -> exact.Law:
    """Joint mass of (context, next token) by depth, for `exact.joint`: every history of rounds is walked."""
    p = exact.law(case.target, prompt, case.sampling, case.window + 2)
    q = exact.law(case.draft, prompt, case.sampling, case.window + 2)
    steps = [np.zeros((ALIVE**depth, VOCAB)) for depth in range(len(p))]

    def walk(depth: int, context: int, kls: tuple[float, ...], k_prev: float, mass: float) -> None:
        """A token is to come; kls: of the window's places before it."""
        if depth == len(p) or mass == 0.0:
            return
        place, here = len(kls), slice(context, context + 1)
        level_p, level_q = p[depth][here], q[depth][here]
        if place == case.window:
            accepted, following = np.zeros(VOCAB), level_p[0]
        else:
            accepted, following = (part[0] for part in rule(KAPPAS[case.length], k_prev)(level_p, level_q, place))
        steps[depth][context] += mass * (accepted + following)
        seen = kls
        if accepted.any():  # else the window ended before this place
            seen = (*kls, float(chances.kl(case, prompt, 0, depth)[context]))
        lag = float(np.mean(seen)) if seen else k_prev
        for token in range(ALIVE):
            child = context * ALIVE + token
            walk(depth + 1, child, seen, k_prev, mass * accepted[token])
            walk(depth + 1, child, (), lag, mass * following[token])

    walk(0, 0, (), 0.0, 1.0)
    return steps
