"""JointAdaSpec's decision problem, estimated from recorded windows: states, transitions, and what an action gains.

Every window of a trace was drafted to its end whatever any policy would have done, so a place says what each action
there would have led to: all T at once by the analytic acceptance, and both `stop` and `continue`.

*Reward.* continue@T at depth k gains S_k (a_k(T) - kappa D_k(T)), where S_k is the weight of still being alive
(toolkit.training.replay), under the current policy's T of the earlier places. That alone would make the choice of T
all or nothing: at a temperature above 0 D_k(T) = a_k(T) - a_k(1) exactly (toolkit.engine.statistics), so the gain is
a_k(1) + (1 - kappa) (a_k(T) - a_k(1)), and only the sign of 1 - kappa matters. But a token that stands also keeps the
tokens behind it alive, which a round's later rewards count with the S of the *current* T. Hence the second part,
S_k (w_k(T) - w_k(T_pi)) F_(k+1): F is what the recorded path gains behind place k, for each unit of survival, under the
current policy. It is 0 for T = T_pi, so at the fixed point of estimating and solving nothing is counted twice.
A state is not all that a path has been through: those that the policy would have stopped on their way to it were
likelier to be dead. Such records count a tenth, enough to know something of states that are not reached.

*Transitions.* continue leads to the next place of the same window. stop at k leads to the next round's first state as
it would have been: K_prev from the places before k up to the first rejection; the entropy from the following window
if the recorded window was rejected at k or before, or ended there; else from the window's own place k+1, as its token
at k was accepted. Rejected or accepted, the token at k is then a draw of p, as the bonus behind k candidates is. (A
head that drafts from the target's states would have known a little more there.) The last window of a request has no
successor and is left out: that a text ended says nothing about the next one.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import ndimage, sparse

from toolkit.errors import UserError
from toolkit.policy import Bins
from toolkit.training import replay
from toolkit.training.traces import Costs, Windows

_UNREACHED = 0.1  # weight of a record that the current policy would not have come to


@dataclass(frozen=True)
class Price:
    """What divergence costs, in tokens: kappa, and more of it where the risk is higher."""

    kappa: float
    risk_K: float = 0.0  # noqa: N815  more by this where K_prev is at the upper end of its bins
    risk_k: float = 0.0  # more by this at the longest window
    top: float = 1.0  # K_prev that is the upper end

    def of(self, windows: Windows, k_max: int) -> np.ndarray:
        """[n, k_max]: the price at each place."""
        lagged = self.risk_K * np.minimum(windows.k_prev / self.top, 1)
        return (self.kappa + lagged[:, None] + self.risk_k * np.arange(k_max) / k_max).astype(np.float32)


@dataclass(frozen=True)
class Rule:
    """A policy by state: where windows end, and how leniently tokens are verified."""

    stop: np.ndarray  # [n_states] bool
    lenient: np.ndarray  # [n_states] int: index of T


@dataclass(frozen=True)
class Smoothing:
    nu_min: int = 5  # visits from which an action's transitions are the counted ones
    alpha: float = 1.0  # visits that the neighbouring bins count for, below that


class Records:
    """What the recorded windows say under these bins; `gains` of a policy, and everything that no policy changes."""

    def __init__(self, windows: Windows, bins: Bins, costs: Costs, smoothing: Smoothing) -> None:
        self.windows, self.bins, self.costs = windows, bins, costs
        self.places = _cut(windows, bins.k_max)  # those that a policy may draft
        self._by_lenience = [
            tuple(x[self.places.valid] for x in (self.places.accept_T[..., t], self.places.tv_T[..., t], passes))
            for t, passes in enumerate(replay.passes(self.places, t) for t in range(len(windows.lenience)))
        ]  # [M] each, of the drafted places
        self.drafted = windows.valid.sum(1)
        self.first = windows.accepted.sum(1)  # [n] place of the first rejection; `drafted` where there was none
        self.states = states(windows, bins)  # [n, k_max+1]
        self.seen = windows.valid[:, : bins.k_max + 1]  # places whose entropy is known
        self.count = np.bincount(self.states[self.seen], minlength=bins.states)
        self._check()
        self._fill = self._nearest()
        self.paces = self._fixed()
        onwards, ended = self._continued(), self._stopped()
        self.visits = np.stack([ended.sum(1), self.count * (self._depths < bins.k_max)], 1)  # [n_states, 2]
        self.transitions = [
            self._smoothed(ended, np.zeros_like(self._depths), smoothing),
            self._smoothed(onwards, np.minimum(self._depths + 1, bins.k_max), smoothing),
        ]

    @property
    def _depths(self) -> np.ndarray:
        """[n_states] k of each state."""
        return np.arange(self.bins.states) % (self.bins.k_max + 1)

    def milliseconds(self, limit: int) -> np.ndarray:
        """[n_states, 2]: what stop and continue cost."""
        return milliseconds(self.costs, self.bins.k_max + 1, limit)[self._depths]

    def gains(self, rule: Rule, price: Price) -> np.ndarray:
        """[n_states, n_T]: mean gain of continue@T; where nothing was recorded, the nearest recorded bin's."""
        places, here = self.places, self.states[:, : self.bins.k_max]
        drafted, choice, cost = places.valid, rule.lenient[here], price.of(places, self.bins.k_max)
        passing = replay.passes(places, choice)
        chosen = replay.chosen(places.accept_T, choice) - cost * replay.chosen(places.tv_T, choice)
        weight = np.where(self._reached(rule), 1.0, _UNREACHED)
        flat = here[drafted]
        counted = np.maximum(np.bincount(flat, weight[drafted], self.bins.states), 1e-12)
        alive = (weight * replay.survival(passing, drafted)[:, :-1])[drafted]
        future, passing, cost = self._future(rule, passing, chosen)[drafted], passing[drafted], cost[drafted]
        gains = [
            np.bincount(flat, alive * (accept - cost * tv + (passes - passing) * future), self.bins.states) / counted
            for accept, tv, passes in self._by_lenience
        ]
        return np.stack(gains, 1)[self._fill]

    def _reached(self, rule: Rule) -> np.ndarray:
        """[n, k_max] bool: would the policy have drafted up to this place?"""
        before = rule.stop[self.states[:, : self.bins.k_max - 1]]
        return np.pad(~np.logical_or.accumulate(before, 1), ((0, 0), (1, 0)), constant_values=True)

    def _future(self, rule: Rule, passing: np.ndarray, gain: np.ndarray) -> np.ndarray:
        """F [n, k_max]: gain behind each place up to the policy's stop, for each unit of survival of that place."""
        k_max = self.bins.k_max
        goes_on = ~rule.stop[self.states[:, :k_max]] & self.windows.valid[:, :k_max]
        future = np.zeros((len(gain), k_max), np.float32)
        for k in range(k_max - 1, 0, -1):
            future[:, k - 1] = goes_on[:, k] * (gain[:, k] + passing[:, k] * future[:, k])
        return future

    def _fixed(self) -> np.ndarray:
        """[k_max+1] tokens per ms of windows of fixed length with T = 1."""
        kept = np.minimum(np.arange(self.bins.k_max + 1), self.drafted[:, None])
        tokens = replay.expected(self.windows, 0)[:, : self.bins.k_max + 1]
        return tokens.sum(0) / self.costs.round_ms(kept, kept).sum(0)

    def _continued(self) -> sparse.csr_array:
        both = self.seen[:, 1:]
        return self._counts(self.states[:, :-1][both], self.states[:, 1:][both])

    def _stopped(self) -> sparse.csr_array:
        entropy, lagged, known = after_stop(self.windows, self.bins.k_max + 1)
        known = known & self.seen
        return self._counts(self.states[known], encoded(self.bins, entropy[known], lagged[known], 0))

    def _counts(self, before: np.ndarray, after: np.ndarray) -> sparse.csr_array:
        ones = np.ones(len(before))
        return sparse.coo_array((ones, (before, after)), shape=(self.bins.states,) * 2).tocsr()

    def _smoothed(self, counts: sparse.csr_array, depth: np.ndarray, smoothing: Smoothing) -> sparse.csr_array:
        """Rows that sum to 1: counted, or where visits are few drawn to the 3 x 3 bins around, at depth [n_states]."""
        visits = counts.sum(1)
        few = visits < smoothing.nu_min
        weight = np.where(few, smoothing.alpha, 0.0)
        scale = sparse.diags_array(1 / np.maximum(visits + weight, 1e-12))
        return (scale @ (counts + sparse.diags_array(weight) @ self._around(depth))).tocsr()

    def _around(self, depth: np.ndarray) -> sparse.csr_array:
        """Uniform over the bins of H and K_prev next to each state's own (itself included), at these depths."""
        n_h, n_kl, n_depth = self.bins.shape
        cell = np.arange(self.bins.states) // n_depth
        rows, columns = [], []
        for up, right in np.ndindex(3, 3):
            h, kl = cell // n_kl + up - 1, cell % n_kl + right - 1
            inside = (h >= 0) & (h < n_h) & (kl >= 0) & (kl < n_kl)
            rows.append(np.flatnonzero(inside))
            columns.append(((h * n_kl + kl) * n_depth + depth)[inside])
        near = self._counts(np.concatenate(rows), np.concatenate(columns))
        return sparse.diags_array(1 / near.sum(1)) @ near

    def _nearest(self) -> np.ndarray:
        """[n_states]: itself where it has records, else the nearest bin of H and K_prev that has some at its depth."""
        grid = self.count.reshape(self.bins.shape)
        states = np.arange(self.bins.states).reshape(self.bins.shape)
        found = states.copy()
        for k in range(self.bins.k_max):
            at = ndimage.distance_transform_edt(grid[..., k] == 0, return_distances=False, return_indices=True)
            found[..., k] = states[..., k][tuple(at)]
        return found.ravel()

    def _check(self) -> None:
        n_h, n_kl, _ = self.bins.shape
        by_bin = self.count.reshape(self.bins.shape)
        for name, bins, axes in ("H", n_h, (1, 2)), ("K", n_kl, (0, 2)):
            filled = np.count_nonzero(by_bin.sum(axes))
            if bins > 1 and filled == 1:
                raise UserError(
                    f"key 'bins.{name}': all of its {bins} bins but one are empty: every recorded state falls in one. "
                    "Give other ends (low, high), or scale: log where most values are small."
                )
        depths = by_bin.sum((0, 1))
        if not depths[: self.bins.k_max].all():
            raise UserError(
                f"key 'k_max' is {self.bins.k_max}; no recorded window goes beyond {int((depths > 0).sum())} tokens: "
                "nothing is known of longer ones. Lower it, or collect traces with longer windows (trace.window)."
            )


def _cut(windows: Windows, k: int) -> Windows:
    """The first k places of what `replay` reads."""
    names = ("valid", "log_ratio", "accept_T", "tv_T")
    return replace(windows, **{name: vars(windows)[name][:, :k] for name in names})


def states(windows: Windows, bins: Bins) -> np.ndarray:
    """[n, k_max+1]: the state at each place; where nothing was drafted it means nothing."""
    depth = torch.arange(bins.k_max + 1)
    return encoded(bins, windows.entropy_q[:, : len(depth)], windows.k_prev[:, None], depth)


def milliseconds(costs: Costs, places: int, limit: int) -> np.ndarray:
    """[places, 2]: what stop and continue cost at each place. Along a window they add up to what its round costs.

    A stop has paid for the law that made it stop, but at the limit, where nobody is asked.
    """
    drafting, k = np.asarray(costs.draft_ms), np.arange(places)
    looked = np.where(k < limit, k + 1, k)
    return np.stack([costs.round_ms(k, looked) - (drafting[k] - drafting[0]), drafting[k + 1] - drafting[k]], 1)


def after_stop(windows: Windows, places: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """H, K_prev at the next round's beginning had the window ended at each place, and whether that is known: [n, P]."""
    k = np.arange(places)
    first = windows.accepted.sum(1)[:, None]
    running = np.cumsum(windows.kl * windows.valid, axis=1)
    judged = np.minimum(first + 1, k)  # places that the shorter window would have had verified
    mean = np.take_along_axis(running, np.maximum(judged - 1, 0), axis=1) / np.maximum(judged, 1)
    lagged = np.where(judged > 0, mean, windows.k_prev[:, None])
    inside = (first > k) & (replay.drafted(windows)[:, None] > k + 1)
    ahead = np.take(windows.entropy_q, np.minimum(k + 1, windows.valid.shape[1] - 1), axis=1)
    entropy = np.where(inside, ahead, windows.entropy_q[windows.following, 0][:, None])
    return entropy, lagged, inside | (windows.following >= 0)[:, None]


def encoded(bins: Bins, entropy: np.ndarray, divergence: np.ndarray, depth: torch.Tensor | int) -> np.ndarray:
    """States as numbers; the arguments broadcast."""
    h, kl = (torch.from_numpy(np.ascontiguousarray(x, np.float32)) for x in (entropy, divergence))
    return bins.encode(bins.edges(torch.device("cpu")), h, kl, depth).numpy()
