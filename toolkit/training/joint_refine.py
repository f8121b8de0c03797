"""The lengths of a policy, improved on the recorded windows themselves, place by place from the last one backwards.

Value iteration takes a state for all that matters of a window, and what survives of it for a mean. Here every record
that the policy comes to is played both ways: ended at its place, or drafted on to where the policy would then end it.
A state with enough such records takes the better way. What lies behind a place is decided before it: policy search by
dynamic programming (Bagnell et al. 2003). At what time costs, so the ratio of tokens to time grows (Dinkelbach).
"""

import numpy as np

from toolkit.training import replay
from toolkit.training.joint_estimate import Price, Records, Rule

_FEWEST = 20  # records that a state's choice is changed for
_SWEEPS = 2


def refined(records: Records, rule: Rule, price: Price, c_time: float, choosable: np.ndarray, limit: int) -> Rule:
    """The rule with other ends of windows. choosable [n_states] bool: where both stop and continue are allowed."""
    worth = _worth(records, rule, price, c_time, limit)
    for _ in range(_SWEEPS):
        rule = Rule(_sweep(records, rule.stop, worth, choosable, limit), rule.lenient)
    return rule


def _worth(records: Records, rule: Rule, price: Price, c_time: float, limit: int) -> np.ndarray:
    """[n, limit+1]: tokens less divergence and time of each window, were it to end at k, or where the record does."""
    places, k_max = records.places, records.bins.k_max
    choice = rule.lenient[records.states[:, :k_max]]
    alive = replay.survival(replay.passes(places, choice), places.valid)[:, :-1]
    cost = price.of(places, k_max)
    gain = replay.chosen(places.accept_T, choice) - cost * replay.chosen(places.tv_T, choice)
    gained = np.cumsum(np.where(places.valid, alive * gain, 0), 1)[:, :limit]
    tokens = 1 + np.pad(gained, ((0, 0), (1, 0)))
    end = np.minimum(np.arange(limit + 1), records.drafted[:, None])
    steps = np.where(end < np.minimum(records.drafted, limit)[:, None], end + 1, end)
    return tokens - c_time * records.costs.round_ms(end, steps)


def _sweep(records: Records, stop: np.ndarray, worth: np.ndarray, choosable: np.ndarray, limit: int) -> np.ndarray:
    stop, states = stop.copy(), records.states
    going = worth[:, limit]  # [n] of drafting on from the place in question
    for k in range(limit - 1, -1, -1):
        here = states[:, k]
        come = ~stop[states[:, :k]].any(1) & (records.drafted > k)
        better = np.bincount(here[come], (worth[:, k] - going)[come], len(stop))
        known = np.bincount(here[come], minlength=len(stop)) >= _FEWEST
        stop = np.where(known & choosable, better > 0, stop)
        going = np.where(stop[here], worth[:, k], going)
    return stop
