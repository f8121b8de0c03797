"""The best length in hindsight: how fast a policy that knew more could have been on a trace, and who gets how near.

`hindsight` knows each window's outcome and drafts exactly the tokens that will stand, where that pays. At temperature
> 0 the outcome hangs on coins that are not yet tossed when drafting ends, so nobody reaches it.
`informed` knows the tokens that the draft would sample and the target's law at every place, but not the coins: it
stops at the k with the best expected tokens 1 + S_1 + ... + S_k for the time. At temperature 0 the two are one.
(S_j a_j would not do here, as it does in `replay`: who knows token j chooses by it, so its own chance must count.)

Both choose windows to make the most tokens a second of the whole trace: k maximises tokens - c ms for each window,
with c the tokens a ms of the choice itself, found by Dinkelbach's iteration. They pay for the steps they draft, no
look. Windows begin where the trace's did and the rule is exact, so a lossy policy may pass an oracle.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from toolkit.evaluation.stats import FEWEST_BLOCKS, Interval
from toolkit.training import replay
from toolkit.training.replay import Rate
from toolkit.training.traces import Costs, Windows

RESAMPLES = 1000
Outcome = tuple[np.ndarray, np.ndarray]  # each window's tokens [n] and milliseconds [n]


@dataclass(frozen=True)
class Oracle:
    """What it chose for each window, and what that gives."""

    stops: np.ndarray  # [n]
    outcome: Outcome
    rate: Rate


def fixed_outcome(windows: Windows, costs: Costs, k: int) -> Outcome:
    """Every window k tokens long."""
    stops = np.full(len(windows.request), k)
    return replay.outcomes(windows, replay.expected(windows, 0), stops, costs, looked=False, limit=k)


def fixed(windows: Windows, costs: Costs, k: int) -> Rate:
    """Every window k tokens long."""
    return replay.rate(*fixed_outcome(windows, costs, k))


def best_fixed(windows: Windows, costs: Costs) -> tuple[int, Rate]:
    """The fixed length from 1 on with the most tokens a second."""
    rates = {k: fixed(windows, costs, k) for k in range(1, windows.valid.shape[1] + 1)}
    best = max(rates, key=lambda k: rates[k].per_second)
    return best, rates[best]


def hindsight(windows: Windows, costs: Costs) -> Oracle:
    """Draft what will be accepted, and nothing else."""
    return _best(windows, _standing(windows.accepted), costs)


def informed(windows: Windows, costs: Costs) -> Oracle:
    """Draft for the best expectation, given the tokens and both models' laws."""
    return _best(windows, _standing(replay.passes(windows, 0)), costs)


def _standing(passing: np.ndarray) -> np.ndarray:
    """Passing [n,K], 0..1 -> tokens [n,K+1] of a window of k: the target's own, and those that nothing before stops."""
    n, k = passing.shape
    tokens = np.ones((n, k + 1), dtype=np.float64)
    tokens[:, 1:] += np.cumsum(np.cumprod(passing, axis=1), axis=1)
    return tokens


def _best(windows: Windows, tokens: np.ndarray, costs: Costs) -> Oracle:
    """Dinkelbach: the choice for rate c has a rate of at least c; when it no longer grows, c is the best there is."""
    lengths = np.arange(tokens.shape[1])
    possible = lengths <= replay.drafted(windows)[:, None]
    ms = np.broadcast_to(costs.round_ms(lengths, lengths), tokens.shape)
    row = np.arange(len(tokens))
    stops, c = np.zeros(len(tokens), dtype=np.int64), -1.0
    while (now := tokens[row, stops].sum() / ms[row, stops].sum()) > c:
        c = now
        stops = np.where(possible, tokens - c * ms, -np.inf).argmax(1)
    outcome = (tokens[row, stops], ms[row, stops])
    return Oracle(stops, outcome, replay.rate(*outcome))


def per_second(request: np.ndarray, outcome: Outcome, seed: int = 0) -> Interval:
    """Tokens a second with a 95% interval: requests are resampled, each with all its windows."""
    return _interval(request, [outcome], lambda rates: rates[0], seed)


def gap_share(request: np.ndarray, policy: Outcome, best: Outcome, oracle: Outcome, seed: int = 0) -> Interval:
    """How much of the way from the best fixed length to the oracle a policy goes: 0 is the one, 1 the other.

    NaN where the oracle is no better. All three are resampled together; the best fixed length is not chosen anew.
    """
    return _interval(request, [policy, best, oracle], _share, seed)


def _share(rates: np.ndarray) -> np.ndarray:
    gap = rates[2] - rates[1]
    return np.divide(rates[0] - rates[1], gap, out=np.full_like(gap, np.nan), where=gap > 0)


def _interval(
    request: np.ndarray, outcomes: list[Outcome], statistic: Callable[[np.ndarray], np.ndarray], seed: int
) -> Interval:
    _, place = np.unique(request, return_inverse=True)
    columns = [column for outcome in outcomes for column in outcome]
    sums = np.stack([np.bincount(place, weights=column) for column in columns], axis=1)  # [requests, 2 an outcome]
    value = float(statistic(_rates(sums.sum(0))))
    if len(sums) < FEWEST_BLOCKS:
        return Interval(value, np.nan, np.nan)
    drawn = np.random.default_rng(seed).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=RESAMPLES)
    low, high = np.quantile(statistic(_rates(drawn @ sums)), [0.025, 0.975])
    return Interval(value, float(low), float(high))


def _rates(sums: np.ndarray) -> np.ndarray:
    """[..., 2 an outcome] of tokens and ms -> tokens a second, [outcomes, ...]."""
    return np.moveaxis(1000 * sums[..., 0::2] / sums[..., 1::2], -1, 0)
