"""Do the conditions hold under which a threshold policy is the best one? C1-C4, on what a trace has really seen.

A pair (state, action) counts if it has `fewest` records; every other is left out, never filled with a prior, and each
result says how much was judged out of how much there was. Intervals are bootstraps by request: 95%, of the state-action
means of resampled requests. A verdict is `undecided` where the interval holds both answers, or nothing could be judged.

- C1: the reward of an action falls, or does not rise, with H and with K_prev. Spearman's rho <= 0, upper bound < 0.1.
  Within each place k, as the reward of a continuation holds the chance of getting to k, which falls with k whatever H
  and K_prev are; then the mean over k, weighted by states.
- C2: uncertain states are followed by uncertain ones. Kendall's tau between the order by H + K_prev and
  -(H' + K_prev') <= 0. After a continuation it is -H' alone: K_prev' is K_prev, which would agree with itself.
- C3: increasing differences. Actions in the order stop, continue at rising T: one step further in H, K_prev or k (up to
  k = 4) does not make the later of two neighbouring actions worse against the earlier. At least 90% of the boxes.
- C4: as C3, between T and the choice of length in one state. A stop has no T here, so what is left is that more
  lenience does not make a continuation worse. At least 90% of the boxes.

A box that is zero holds by construction (both actions have the same reward in both states) and is counted apart: at a
temperature above 0 the divergence is what more is accepted, D(T) = a(T) - a(1), so that with kappa = 1 the reward does
not hang on T at all, and the sign of 1 - kappa decides C4.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import sparse, stats

from toolkit.policy import STOP

RESAMPLES = 500
FEWEST = 5  # records of a pair, to be judged
NEEDED = 0.9  # share of boxes
NOISE = 5e-4  # tokens: a box that is smaller is zero, as acceptance is stored in half precision
DEEPEST = 4  # steps in k are judged up to here
FEWEST_STATES = 3  # for a rank correlation

PASS, FAIL, UNDECIDED = "pass", "fail", "undecided"


@dataclass(frozen=True)
class Occasions:
    """A row a place at which a policy would be asked. A actions: stop, then continue at each T."""

    state: np.ndarray  # [m] int
    uncertainty: np.ndarray  # [m, 2] H and K_prev, nats
    after: np.ndarray  # [m, 2, 2] H' and K_prev' after a stop, and after a continuation; NaN = not recorded
    reward: np.ndarray  # [m, A]; NaN = the action is not allowed here
    request: np.ndarray  # [m]


@dataclass(frozen=True)
class Judged:
    """One figure of one condition, for one action."""

    condition: str
    about: str  # which action, along what
    value: float
    low: float
    high: float
    verdict: str
    judged: int  # states or boxes
    possible: int  # of so many
    trivial: int = 0  # boxes that are zero, counted in neither


def drawn(request: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Request of each row -> its place [m], and how often each is in a resample [1+B, R]: first the trace itself."""
    requests, place = np.unique(request, return_inverse=True)
    share = np.full(len(requests), 1 / len(requests))
    counts = np.random.default_rng(seed).multinomial(len(requests), share, size=RESAMPLES)
    return place, np.vstack([np.ones(len(requests)), counts])


class Means:
    """State-action means of the visited states, as recorded and resampled by request."""

    def __init__(self, asked: Occasions, seed: int = 0) -> None:
        self.states, self._row = np.unique(asked.state, return_inverse=True)  # visited, ascending
        self._request, self._counts = drawn(asked.request, seed)
        self.reward, self.visits = self._mean(asked.reward)  # [1+B, S, A], [S, A]
        self.uncertainty = self._mean(asked.uncertainty)[0][0]  # [S, 2]: where a state lies is not resampled
        stopped, continued = asked.after[:, 0].sum(1), asked.after[:, 1, 0]  # H' + K_prev', H'
        self.after, self.followed = self._mean(np.stack([stopped, continued], 1))  # [1+B, S, 2], [S, 2]

    def _mean(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """values [m, X] -> means [1+B, S, X], NaN where too little was seen, and records [S, X]."""
        means, visits = [], []
        for column in values.T:
            seen = ~np.isnan(column)
            at, shape = (self._request[seen], self._row[seen]), (self._counts.shape[1], len(self.states))
            sums = self._counts @ sparse.coo_array((column[seen], at), shape=shape).toarray()
            records = self._counts @ sparse.coo_array((np.ones(seen.sum()), at), shape=shape).toarray()
            enough = (records[0] >= FEWEST) & (records > 0)
            means.append(np.divide(sums, records, out=np.full_like(sums, np.nan), where=enough))
            visits.append(records[0].astype(int))
        return np.stack(means, axis=2), np.stack(visits, axis=1)


def rewards_fall(means: Means, shape: tuple[int, int, int], names: Sequence[str]) -> list[Judged]:
    """C1 for each action, along H and along K_prev, at each place k of its own; shape: bins of H, K_prev and k."""
    found, depth = [], np.unravel_index(means.states, shape)[2]
    for a, action in enumerate(names):
        for v, variable in enumerate(("H", "K_prev")):
            rho, judged = by_depth(means.uncertainty[:, v], means.reward[:, :, a], depth)
            value, low, high = bounds(rho)
            verdict = _verdict(value <= 0 and high < 0.1, low > 0)
            visited = int((means.visits[:, a] > 0).sum())
            found.append(Judged("C1", f"{action}, {variable}", value, low, high, verdict, judged, visited))
    return found


def uncertainty_lasts(means: Means) -> list[Judged]:
    """C2 for a stop (H' + K_prev') and a continuation (H'): which state is next does not hang on T."""
    order = means.uncertainty.sum(1)
    found = []
    for a, action in enumerate(("stop", "continue")):
        value, low, high = bounds(np.array([_kendall(order, -resampled) for resampled in means.after[:, :, a]]))
        coverage = _coverage(means.followed[:, a])
        found.append(Judged("C2", action, value, low, high, _verdict(value <= 0 and high <= 0, low > 0), *coverage))
    return found


def boxes_by_state(means: Means, shape: tuple[int, int, int], names: Sequence[str]) -> list[Judged]:
    """C3 for each pair of neighbouring actions, over all steps in H, K_prev and k; shape: bins of each."""
    here, there = _steps(means.states, shape)
    found = []
    for a, (first, second) in enumerate(pairwise(names)):
        gain = means.reward[:, :, a + 1] - means.reward[:, :, a]
        found.append(_boxes("C3", f"{first} / {second}", gain[:, there] - gain[:, here]))
    return found


def boxes_by_lenience(means: Means, names: Sequence[str]) -> list[Judged]:
    """C4 for each pair of neighbouring T."""
    found = []
    for a, (first, second) in list(enumerate(pairwise(names)))[STOP + 1 :]:
        found.append(_boxes("C4", f"{first} / {second}", means.reward[:, :, a + 1] - means.reward[:, :, a]))
    return found


def _steps(states: np.ndarray, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Visited states that are one bin apart in H, K_prev or k: places in `states` of the nearer, and of the further."""
    at = np.full(int(np.prod(shape)), -1)
    at[states] = np.arange(len(states))
    place = np.stack(np.unravel_index(states, shape), axis=1)  # [S, 3]
    pairs = []
    for axis, bins in enumerate((shape[0], shape[1], min(shape[2], DEEPEST + 1))):
        here = np.flatnonzero(place[:, axis] + 1 < bins)
        further = place[here] + (np.arange(3) == axis)
        there = at[np.ravel_multi_index(tuple(further.T), shape)]
        pairs.append(np.stack([here[there >= 0], there[there >= 0]]))
    here, there = np.concatenate(pairs, axis=1)
    return here, there


def by_depth(x: np.ndarray, y: np.ndarray, depth: np.ndarray) -> tuple[np.ndarray, int]:
    """x [S], y [B, S], depth [S] -> the mean over depths of their rank correlations [B], and the states in the first.

    Weighted by the states that are known; a depth with too few, or at which nothing changes, is left out.
    """
    strata = [depth == k for k in np.unique(depth)]
    rho = np.stack([spearman(x[at], y[:, at]) for at in strata])  # [k, B]
    weight = np.where(np.isnan(rho), 0, [(~np.isnan(y[:, at])).sum(1) for at in strata])
    total = weight.sum(0)
    mean = np.divide((np.nan_to_num(rho) * weight).sum(0), total, out=np.full(len(y), np.nan), where=total > 0)
    return mean, int(total[0])


def spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x [S], y [B, S] with NaN where nothing is known -> rank correlations [B], each over what is known."""
    known = ~np.isnan(y)
    count = known.sum(1, keepdims=True)
    middle = (count + 1) / 2  # the mean rank of what is known; what is not comes behind it
    ranks = (stats.rankdata(np.where(known, values, np.inf), axis=1) for values in (x, y))
    first, second = (np.where(known, rank - middle, 0.0) for rank in ranks)
    scale = np.sqrt((first**2).sum(1) * (second**2).sum(1))
    enough = (count[:, 0] >= FEWEST_STATES) & (scale > 0)  # what never changes has no rank correlation
    return np.divide((first * second).sum(1), scale, out=np.full(len(y), np.nan), where=enough)


def bounds(resampled: np.ndarray) -> tuple[float, float, float]:
    """[1+B]: of the trace itself, then of its resamples -> value and 95% bounds; NaN where nothing is known."""
    known = resampled[1:][~np.isnan(resampled[1:])]
    low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (np.nan, np.nan)
    return float(resampled[0]), float(low), float(high)


def _kendall(x: np.ndarray, y: np.ndarray) -> float:
    known = ~np.isnan(y)
    return float(stats.kendalltau(x[known], y[known]).statistic) if known.sum() >= FEWEST_STATES else np.nan


def _boxes(condition: str, about: str, boxes: np.ndarray) -> Judged:
    """boxes [1+B, N]: the share that is positive, of those that are not zero. NaN = not judged."""
    positive, negative = (boxes > NOISE).sum(1), (boxes < -NOISE).sum(1)
    seen = positive + negative
    share, low, high = bounds(np.divide(positive, seen, out=np.full(len(boxes), np.nan), where=seen > 0))
    verdict = _verdict(share >= NEEDED and low >= NEEDED, share < NEEDED and high < NEEDED)
    trivial = int((np.abs(boxes[0]) <= NOISE).sum())
    return Judged(condition, about, share, low, high, verdict, int(seen[0]), boxes.shape[1], trivial)


def _coverage(visits: np.ndarray) -> tuple[int, int]:
    """States judged, and visited."""
    return int((visits >= FEWEST).sum()), int((visits > 0).sum())


def _verdict(holds: bool, broken: bool) -> str:
    return PASS if holds else FAIL if broken else UNDECIDED
