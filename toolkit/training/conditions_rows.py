"""A policy on recorded windows, place by place: the rows that its conditions are judged by, and how it plays."""

from dataclasses import dataclass

import numpy as np

from toolkit.policy import STOP, Bins, Solution
from toolkit.training import replay
from toolkit.training.conditions import Occasions
from toolkit.training.conditions_chain import Moves
from toolkit.training.joint_estimate import Rule, after_stop, encoded, milliseconds, states
from toolkit.training.joint_solve import ends
from toolkit.training.oracle import Outcome
from toolkit.training.traces import Costs, Windows


@dataclass(frozen=True)
class Playback:
    """Where the policy ends each window [n], and what comes of it."""

    stops: np.ndarray
    outcome: Outcome
    exact: Outcome  # with the same lengths and T = 1
    divergence: np.ndarray


def records(windows: Windows, bins: Bins, solution: Solution, costs: Costs) -> tuple[Occasions, Moves]:
    """Rows of all places that were drafted, each with what every action would have gained and led to.

    The reward: continue@T at place k has S_k (a_k(T) - kappa D_k(T)) less the time of a draft step; a stop one token
    less the time of the rest of the round. S_k is under the policy's T of the earlier places, whether it would have
    got there or not. Windows are longer than bins.k_max, so that it is known what follows the longest.
    """
    here = states(windows, bins)
    places = here.shape[1]
    seen = windows.valid[:, :places]
    entropy, lagged, known = after_stop(windows, places)
    after = np.full((*here.shape, 2, 2), np.nan)  # [n, P, stop or continue, H or K_prev]
    after[:, :, 0] = np.where(known[..., None], np.stack([entropy, lagged], axis=2), np.nan)
    onwards = np.zeros_like(seen)
    onwards[:, :-1] = seen[:, 1:]  # and is not at its limit, as the last place is not followed by another
    after[:, :-1, 1, 0], after[:, :, 1, 1] = windows.entropy_q[:, 1:places], windows.k_prev[:, None]
    after[~onwards, 1] = np.nan
    following = np.full((*here.shape, 2), -1)
    following[..., 0] = np.where(known, encoded(bins, entropy, lagged, 0), -1)
    following[:, :-1, 1] = np.where(onwards[:, :-1], here[:, 1:], -1)
    request = np.broadcast_to(windows.request[:, None], here.shape)[seen]
    uncertainty = np.stack(
        [windows.entropy_q[:, :places], np.broadcast_to(windows.k_prev[:, None], here.shape)], axis=2
    )
    begins = np.broadcast_to(np.arange(places) == 0, here.shape)
    reward = _reward(windows, bins, solution, costs, here)
    return (
        Occasions(here[seen], uncertainty[seen], after[seen], reward[seen], request),
        Moves(here[seen], following[seen], begins[seen], request),
    )


def play(windows: Windows, bins: Bins, solution: Solution, costs: Costs) -> Playback:
    """The policy's lengths and T on the windows. They begin, and their K_prev is, as in the trace."""
    here = states(windows, bins)
    stops, limit = ends(here, Rule(solution.action == STOP, solution.lenient), bins.k_max), solution.limit(bins)
    choice = _choice(windows, bins, solution, here)
    outcome, exact = (
        replay.outcomes(windows, replay.expected(windows, one), stops, costs, looked=True, limit=limit)
        for one in (choice, 0)
    )
    kept = np.minimum(stops, replay.drafted(windows))
    return Playback(stops, outcome, exact, replay.divergence(windows, choice)[np.arange(len(kept)), kept])


def _reward(windows: Windows, bins: Bins, solution: Solution, costs: Costs, here: np.ndarray) -> np.ndarray:
    """[n, P, 1+n_T]; NaN for a continuation at the limit."""
    places, k_max = here.shape[1], bins.k_max
    weight = replay.survival(replay.passes(windows, _choice(windows, bins, solution, here)), windows.valid)
    gain = windows.accept_T[:, :places] - solution.kappa * windows.tv_T[:, :places]
    rest, step = milliseconds(costs, places, solution.limit(bins)).T
    reward = np.empty((*here.shape, 1 + gain.shape[2]))
    reward[..., 0] = 1 - solution.c_time * rest
    reward[..., 1:] = weight[:, :places, None] * gain - solution.c_time * step[:, None]
    reward[:, k_max:, 1:] = np.nan
    return reward


def _choice(windows: Windows, bins: Bins, solution: Solution, here: np.ndarray) -> np.ndarray:
    """[n, K] index of T."""
    choice = np.zeros(windows.valid.shape, dtype=np.int64)
    choice[:, : bins.k_max] = solution.lenient[here[:, : bins.k_max]]
    return choice
