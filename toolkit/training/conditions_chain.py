"""Do length and lenience have to be chosen together? N1 and N2: where the joint policy and a cascade do otherwise.

- N1: they differ in at least one state that was judged.
- N2: under the joint policy, a positive share of the places at which it is asked are in such states. The share is that
  of the stationary distribution of the recorded transitions, by power iteration; a state that has no recorded successor
  for what the policy does there goes on as rounds begin. A step is a round: place by place the iteration would hardly
  settle, as windows of much the same length bring it back to where it was.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from toolkit.policy import STOP
from toolkit.training.conditions import FAIL, FEWEST, PASS, UNDECIDED, bounds, drawn

STEPS, TOLERANCE = 200, 1e-10


@dataclass(frozen=True)
class Moves:
    """A row a place at which a policy would be asked: which state, and which is next after either kind of action."""

    state: np.ndarray  # [m]
    after: np.ndarray  # [m, 2] next state after a stop, after a continuation; -1 = not recorded
    begins: np.ndarray  # [m] bool: a round begins here
    request: np.ndarray  # [m]


@dataclass(frozen=True)
class Stationary:
    """Share of time in each state under a policy, on the trace and on its resamples."""

    states: np.ndarray  # [S] visited
    visits: np.ndarray  # [S]
    mass: np.ndarray  # [1+B, S]
    converged: np.ndarray  # [1+B] bool
    steps: int  # rounds until the trace itself settled
    unknown: float  # mass in states without a recorded successor for what the policy does


@dataclass(frozen=True)
class Difference:
    """The joint policy against one cascade."""

    cascade: str
    states: int  # of the policy
    judged: int  # with enough records
    differing: int  # of the judged
    share: float  # of the judged
    mass: float  # stationary, of the differing
    mass_low: float
    mass_high: float
    steps: int
    converged: bool
    converged_share: float  # of the resamples
    mass_unknown: float
    n1: str
    n2: str


def stationary(moves: Moves, action: np.ndarray, seed: int = 0) -> Stationary:
    """Power iteration of the policy action [n_states], from how rounds begin."""
    states, row = np.unique(moves.state, return_inverse=True)
    place, counts = drawn(moves.request, seed)
    kind = (action[moves.state] != STOP).astype(int)
    following = np.take_along_axis(moves.after, kind[:, None], axis=1)[:, 0]
    column = np.minimum(np.searchsorted(states, following), len(states) - 1)
    known = (following >= 0) & (states[column] == following)
    size = len(states)
    edges, edge = np.unique(row[known] * size + column[known], return_inverse=True)
    seen = sparse.coo_array((np.ones(known.sum()), (place[known], edge)), shape=(counts.shape[1], len(edges))).tocsr()
    begun = moves.begins
    first = np.bincount(row, begun) > 0  # [S]
    starts = sparse.coo_array((np.ones(begun.sum()), (place[begun], row[begun])), shape=(counts.shape[1], size)).tocsr()
    resampled = zip(counts @ seen, counts @ starts, strict=True)
    found = [_power(*divmod(edges, size), weight, start / start.sum(), first) for weight, start in resampled]
    masses, changes, steps, unknown = zip(*found, strict=True)
    converged = np.array(changes) < TOLERANCE
    return Stationary(states, np.bincount(row), np.stack(masses), converged, steps[0], unknown[0])


def _power(
    before: np.ndarray, after: np.ndarray, weight: np.ndarray, start: np.ndarray, first: np.ndarray
) -> tuple[np.ndarray, float, int, float]:
    """Edges with their counts -> mass [S], the last change, rounds, mass that had no edge.

    start [S]: how rounds begin in the trace; first [S]: the states in which one may.
    """
    size = len(start)
    total = np.bincount(before, weight, size)
    chance = np.divide(weight, total[before], out=np.zeros_like(weight), where=total[before] > 0)
    back = sparse.coo_array((chance, (after, before)), shape=(size, size)).tocsr()
    lost = total == 0
    begin, change, step = start, np.inf, 0
    while change >= TOLERANCE and step < STEPS:
        mass, following, here = np.zeros(size), np.zeros(size), begin
        while here.any():  # each place of the window once: a continuation leads to the next
            mass += here
            moved = back @ here + here[lost].sum() * start
            following += np.where(first, moved, 0)
            here = np.where(first, 0, moved)
        begin, change, step = following, float(np.abs(following - begin).sum()), step + 1
    mass /= mass.sum()
    return mass, change, step, float(mass[lost].sum())


def difference(joint: np.ndarray, other: np.ndarray, name: str, chain: Stationary) -> Difference:
    """joint, other: actions [n_states]; chain: of the joint policy."""
    judged = chain.visits >= FEWEST
    apart = judged & (joint[chain.states] != other[chain.states])
    count = int(apart.sum())
    mass, low, high = bounds(np.where(chain.converged, chain.mass[:, apart].sum(1), np.nan))
    n2 = FAIL if not count else PASS if low > 0 else UNDECIDED
    return Difference(
        cascade=name,
        states=len(joint),
        judged=int(judged.sum()),
        differing=count,
        share=count / max(1, int(judged.sum())),
        mass=mass,
        mass_low=low,
        mass_high=high,
        steps=chain.steps,
        converged=bool(chain.converged[0]),
        converged_share=float(chain.converged[1:].mean()),
        mass_unknown=chain.unknown,
        n1=PASS if count else FAIL if judged.any() else UNDECIDED,
        n2=n2 if judged.any() else UNDECIDED,
    )
