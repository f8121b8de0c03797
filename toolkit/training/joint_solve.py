"""From estimated records to solutions: estimating and solving in turn until neither changes, and the two cascades.

What a token is worth depends on the policy (the weight of being alive, and what follows), and so does what a
millisecond costs: a round's time is priced in the tokens that would have been decoded in it. With c_time `auto` that is
the solved policy's own tokens per ms, played on the training windows (Dinkelbach 1967: where nothing is paid for
divergence, the fixed point has the most tokens per ms). A state does not say all that matters of the paths through it,
and which paths these are depends on the policy, so the turns need not settle: of all policies met, the one that plays
best is kept, by (tokens - kappa D) per ms.

The cascades are the same problem with one choice frozen: the length solved with T = 1 only, then T on these lengths; or
T solved with every window drafted to its end, then the length with these T.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from toolkit.policy import STOP, Solution
from toolkit.training import mdp, replay
from toolkit.training.joint_estimate import Price, Records, Rule
from toolkit.training.traces import Costs, Windows

_TURNS = 8
_SETTLED = 0.01  # relative change of c_time
_SAME = 1e-4  # tokens: T is not raised for less; accept_T and tv_T are stored in half precision


@dataclass(frozen=True)
class Played:
    """A policy on recorded windows."""

    tokens: float  # expected, a window
    divergence: float
    ms: float
    length: float  # tokens drafted a window

    @property
    def pace(self) -> float:
        """Tokens per ms."""
        return self.tokens / self.ms

    def worth(self, kappa: float) -> float:
        """Tokens per ms, divergence paid for."""
        return (self.tokens - kappa * self.divergence) / self.ms


@dataclass(frozen=True)
class Solved:
    rule: Rule
    value: np.ndarray  # [n_states]
    q: np.ndarray  # [n_states, 1+n_T]
    rewards: np.ndarray  # [n_states, 1+n_T]
    c_time: float
    turns: int
    played: Played  # on the windows that it was estimated from

    def solution(self, order: str, kappa: float) -> Solution:
        action = np.where(self.rule.stop, STOP, 1 + self.rule.lenient)
        return Solution(order, kappa, self.c_time, action.astype(np.int8), self.rule.lenient.astype(np.int8))


@dataclass(frozen=True)
class Settings:
    discount: float = 0.99
    c_time: float | None = None  # tokens a millisecond costs; None: auto


def play(windows: Windows, states: np.ndarray, rule: Rule, k_max: int, costs: Costs) -> Played:
    """states: [n, k_max+1] as `Records` has them. Where windows begin, and their K_prev, are the trace's."""
    stops, limit = ends(states, rule, k_max), longest(rule, k_max)
    choice = np.zeros(windows.valid.shape, np.int64)
    choice[:, :k_max] = rule.lenient[states[:, :k_max]]
    kept = np.minimum(stops, replay.drafted(windows))
    alive = replay.survival(replay.passes(windows, choice), windows.valid)[:, :-1]
    alive = np.where(np.arange(alive.shape[1]) < kept[:, None], alive, 0)
    ms = costs.round_ms(kept, np.where(kept < np.minimum(replay.drafted(windows), limit), kept + 1, kept))
    tokens, divergence = ((alive * replay.chosen(x, choice)).sum(1) for x in (windows.accept_T, windows.tv_T))
    means = (column.mean() for column in (1 + tokens, divergence, ms, kept))
    return Played(*map(float, means))


def ends(states: np.ndarray, rule: Rule, k_max: int) -> np.ndarray:
    """[n]: where the policy ends each window."""
    stopping = rule.stop[states]
    stopping[:, k_max] = True
    return stopping.argmax(1)


def longest(rule: Rule, k_max: int) -> int:
    """The first place at which every state stops (see toolkit.policy.Solution.limit)."""
    always = rule.stop.reshape(-1, k_max + 1).all(0)
    always[k_max] = True
    return int(always.argmax())


Allowed = Callable[[np.ndarray], np.ndarray]  # valid [n_states, 1+n_T] -> the same with a choice frozen


def solve(records: Records, price: Price, settings: Settings, frozen: Allowed = lambda valid: valid) -> Solved:
    """The best policy met. frozen: which actions are left of those that a state has.

    A window that ends at the policy's limit is spared the look at one more law, so a limit is worth having: the best is
    climbed to from the best fixed window.
    """
    tried: dict[int, Solved] = {}

    def score(limit: int) -> float:
        if limit not in tried:
            tried[limit] = solve_within(records, price, settings, frozen, limit)
        return _score(tried[limit], price, settings.c_time is None)

    k_max = records.bins.k_max
    first, _ = _first(records, frozen(_every(records, k_max)))
    best = longest(first, k_max)
    for step in (1, -1):
        while 0 <= best + step <= k_max and score(best + step) > score(best):
            best += step
    score(best)
    return tried[best]


def solve_within(records: Records, price: Price, settings: Settings, frozen: Allowed, limit: int) -> Solved:
    """Estimate and solve in turn, with windows of at most `limit`."""
    bins, grid = records.bins, len(records.windows.lenience)
    free, valid = frozen(_every(records, bins.k_max)), frozen(_every(records, limit))
    uses, took = [0] + [1] * grid, records.milliseconds(limit)
    rule, pace = _first(records, valid)
    auto = settings.c_time is None
    c_time = pace if auto else settings.c_time
    best, value, turns, settled = None, None, 0, False
    while not settled and turns < _TURNS:
        gains = records.gains(rule, price)
        rewards = np.concatenate([np.ones((bins.states, 1)), gains], 1) - c_time * took[:, uses]
        solution = mdp.value_iteration(rewards, records.transitions, uses, valid, settings.discount, start=value)
        value, turns = solution.value, turns + 1
        after = Rule(solution.policy == STOP, _lenience(gains, free))
        played = play(records.windows, records.states, after, bins.k_max, records.costs)
        solved = Solved(after, value, solution.q, rewards, c_time, turns, played)
        if best is None or _score(solved, price, auto) > _score(best, price, auto):
            best = solved
        same = (after.stop == rule.stop).all() and (after.lenient == rule.lenient).all()
        moved = abs(played.pace / c_time - 1) if auto else 0.0
        settled = same and moved < _SETTLED
        rule, c_time = after, played.pace if auto else c_time
    return best


def length_then_verif(records: Records, price: Price, settings: Settings, lengths: Solved) -> Solved:
    """lengths: the first stage, `solve(..., exact)`, which no kappa changes."""
    stop = lengths.rule.stop

    def kept(valid: np.ndarray) -> np.ndarray:
        return valid & np.where(stop[:, None], _only_stop(valid), ~_only_stop(valid))

    return solve_within(records, price, settings, kept, longest(lengths.rule, records.bins.k_max))


def verif_then_length(records: Records, price: Price, settings: Settings) -> Solved:
    first = solve_within(records, price, settings, onwards, records.bins.k_max)

    def kept(valid: np.ndarray) -> np.ndarray:
        chosen = np.zeros_like(valid)
        chosen[np.arange(len(valid)), 1 + first.rule.lenient] = True
        return valid & (chosen | _only_stop(valid))

    return solve(records, price, settings, kept)


def _every(records: Records, limit: int) -> np.ndarray:
    """[n_states, 1+n_T]: all actions, but none that drafts on at the limit."""
    valid = np.ones((records.bins.states, 1 + len(records.windows.lenience)), bool)
    valid[np.arange(len(valid)) % (records.bins.k_max + 1) >= limit, 1:] = False
    return valid


def exact(valid: np.ndarray) -> np.ndarray:
    """T = 1 only."""
    return valid & (np.arange(valid.shape[1]) < 2)


def onwards(valid: np.ndarray) -> np.ndarray:
    """Every window is drafted to its end."""
    return valid & (~_only_stop(valid) | ~valid[:, 1:].any(1, keepdims=True))


def _only_stop(valid: np.ndarray) -> np.ndarray:
    return np.broadcast_to(np.arange(valid.shape[1]) == STOP, valid.shape)


def _first(records: Records, valid: np.ndarray) -> tuple[Rule, float]:
    """Where the turns begin: the lowest T and the best fixed window, as far as they are allowed."""
    k_max = records.bins.k_max
    depth = np.arange(len(valid)) % (k_max + 1)
    lenient, must, may = valid[:, 1:].argmax(1), ~valid[:, 1:].any(1), valid[:, STOP]
    best = int(records.paces.argmax())
    return Rule(must | (may & (depth >= best)), lenient), float(records.paces[best])


def _lenience(gains: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """[n_states]: the lowest T that gains about as much as the best. All T lead to the same states, so V plays no part.

    Where the only choice is to stop, all T stand: it is what a token would get that is drafted all the same.
    """
    allowed = np.where(valid[:, 1:].any(1, keepdims=True), valid[:, 1:], True)
    gains = np.where(allowed, gains, -np.inf)
    return (gains >= gains.max(1, keepdims=True) - _SAME).argmax(1)


def _score(solved: Solved, price: Price, auto: bool) -> float:
    """What the turns are to maximise: the ratio, or with a given price of time the average reward of an action."""
    played = solved.played
    if auto:
        return played.worth(price.kappa)
    return (played.tokens - price.kappa * played.divergence - solved.c_time * played.ms) / (played.length + 1)
