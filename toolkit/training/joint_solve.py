"""From estimated records to solutions: estimating and solving in turn until neither changes, and the two cascades.

What a token is worth depends on the policy (the weight of being alive, and what follows), and so does what a
millisecond costs: a round's time is priced in the tokens that would have been decoded in it. With c_time `auto` that is
the best policy's own (tokens - kappa D) per ms, played on the training windows: at its fixed point this ratio is as
large as it gets (Dinkelbach 1967). A state does not say all that matters of the paths through it, and which paths these
are depends on the policy, so lengths are improved on the windows themselves as well (joint_refine), and the turns need
not settle: of all policies met, the one that they began with among them, the one that plays best is kept.

The cascades are the same problem with one choice frozen: the length solved with T = 1 only, then T on these lengths; or
T solved with every window drafted to its end, then the length with these T.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from toolkit.policy import STOP, Solution
from toolkit.training import mdp, replay
from toolkit.training.joint_estimate import Price, Records, Rule
from toolkit.training.joint_refine import refined
from toolkit.training.traces import Costs, Windows

_TURNS = 4
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


def _all(valid: np.ndarray) -> np.ndarray:
    return valid


Allowed = Callable[[np.ndarray], np.ndarray]  # valid [n_states, 1+n_T] -> the same with a choice frozen


def solve(
    records: Records,
    price: Price,
    settings: Settings,
    frozen: Allowed = _all,
) -> Solved:
    """The best policy met. frozen: which actions are left of those that a state has.

    A window that ends at the policy's limit is spared the look at one more law, so all limits are tried.
    """
    tried = [solve_within(records, price, settings, frozen, limit) for limit in range(records.bins.k_max + 1)]
    return max(tried, key=lambda one: _score(one, price, settings.c_time is None))


def solve_within(
    records: Records, price: Price, settings: Settings, frozen: Allowed, limit: int, start: Rule | None = None
) -> Solved:
    """Estimate and solve in turn, with windows of at most `limit`; the policy to start from is a candidate as well."""
    bins, grid = records.bins, len(records.windows.lenience)
    free, valid = frozen(_every(records, bins.k_max)), frozen(_every(records, limit))
    uses, took = [0] + [1] * grid, records.milliseconds(limit)
    choosable = valid[:, STOP] & valid[:, 1:].any(1)
    auto = settings.c_time is None

    def met(rule: Rule, solution: mdp.Solution, rewards: np.ndarray, c_time: float, turn: int) -> Solved:
        played = play(records.windows, records.states, rule, bins.k_max, records.costs)
        return Solved(rule, solution.value, solution.q, rewards, c_time, turn, played)

    rule = _first(records, valid, limit) if start is None else start
    played = play(records.windows, records.states, rule, bins.k_max, records.costs)
    c_time = played.worth(price.kappa) if auto else settings.c_time
    candidates: list[Solved] = []
    value = None
    for turn in range(1, _TURNS + 1):
        gains = records.gains(rule, price)
        rewards = np.concatenate([np.ones((bins.states, 1)), gains], 1) - c_time * took[:, uses]
        solution = mdp.value_iteration(rewards, records.transitions, uses, valid, settings.discount, start=value)
        value, after = solution.value, Rule(solution.policy == STOP, _lenience(gains, free))
        better = refined(records, after, price, c_time, choosable, limit)
        if turn == 1:
            candidates.append(met(rule, solution, rewards, c_time, 0))
        candidates += [met(one, solution, rewards, c_time, turn) for one in (after, better)]
        after = max(candidates[-2:], key=lambda one: _score(one, price, auto)).rule
        same = (after.stop == rule.stop).all() and (after.lenient == rule.lenient).all()
        paid = max(one.played.worth(price.kappa) for one in candidates) if auto else c_time
        if same and abs(paid / c_time - 1) < _SETTLED:
            break
        rule, c_time = after, paid
    return max(candidates, key=lambda one: _score(one, price, auto))


def solve_from(records: Records, price: Price, settings: Settings, limit: int, start: Rule) -> Solved:
    """A policy at least as good as `start`, from which the turns begin."""
    return solve_within(records, price, settings, _all, limit, start)


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


def _first(records: Records, valid: np.ndarray, limit: int) -> Rule:
    """Where the turns begin: the lowest T and windows of `limit` tokens, as far as they are allowed."""
    depth = np.arange(len(valid)) % (records.bins.k_max + 1)
    lenient, must, may = valid[:, 1:].argmax(1), ~valid[:, 1:].any(1), valid[:, STOP]
    return Rule(must | (may & (depth >= limit)), lenient)


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
