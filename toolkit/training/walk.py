"""Acceptance by simulation: what real decoding would accept, from one parallel pass over recorded target answers.

A draft is run at every position at once; then the rounds are walked through: from where a round begins, the window
stands up to its first miss, and the next round begins behind the target's own token. At temperature 0 a drafted token
stands exactly if the answer has it, so the walk's tau is that of real decoding (near-ties of the target apart). A mean
over all positions is another number, as rounds begin more often behind misses: it is kept apart (`position_hits`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Walk:
    """Sums over texts, by depth in the window where it is a list."""

    emitted: int = 0
    rounds: int = 0
    drafted: list[int] = field(default_factory=list)  # windows that reached this depth, all hits before it or not
    accepted: list[int] = field(default_factory=list)  # of these: the window stood up to here
    positions: list[int] = field(default_factory=list)  # positions at which a window would have got this far
    position_hits: list[int] = field(default_factory=list)  # of these: hits

    @staticmethod
    def empty(k: int) -> "Walk":
        return Walk(0, 0, [0] * k, [0] * k, [0] * k, [0] * k)

    @property
    def tau(self) -> float:
        """Emitted tokens a round."""
        return self.emitted / self.rounds if self.rounds else 0.0

    @property
    def acceptance(self) -> float:
        """Accepted of drafted tokens."""
        return sum(self.accepted) / max(1, sum(self.drafted))

    def figures(self) -> dict[str, float | list[float]]:
        """For people and manifests."""
        return {
            "tau": round(self.tau, 4),
            "acceptance": round(self.acceptance, 4),
            "accepted_by_position": _shares(self.accepted, self.drafted),
            "conditional_over_all_positions": _shares(self.position_hits, self.positions),
        }

    def vector(self) -> Tensor:
        """Everything as one tensor, to be summed over processes."""
        lists = (self.drafted, self.accepted, self.positions, self.position_hits)
        return torch.tensor([self.emitted, self.rounds, *(n for one in lists for n in one)], dtype=torch.float64)

    @staticmethod
    def of(vector: Tensor) -> "Walk":
        emitted, rounds, *rest = (int(n) for n in vector.tolist())
        k = len(rest) // 4
        return Walk(emitted, rounds, *(rest[at * k : (at + 1) * k] for at in range(4)))


def walk(hits: Tensor, ended: bool) -> Walk:
    """One answer of n tokens. hits: [k, n] bool; [d, t]: is the token drafted at depth d for place t the answer's?

    A window that begins at place t drafts the places t, t+1, ... at depths 0, 1, ...; `ended`: the answer ends with the
    EOS, so no limit of tokens cut windows short before it.
    """
    k, n = hits.shape
    table = hits.tolist()
    sums = Walk.empty(k)
    place = 0
    while place < n:
        window = min(k, n - place if ended else n - place - 1)  # the last token in the limit is never drafted
        stood = next((d for d in range(window) if not table[d][place + d]), window)
        for depth in range(window):
            sums.drafted[depth] += 1
            sums.accepted[depth] += depth < stood
        sums.rounds += 1
        place += stood + 1
    sums.emitted = n
    for depth in range(k):
        reached = [start for start in range(n - depth) if all(table[d][start + d] for d in range(depth))]
        sums.positions[depth] = len(reached)
        sums.position_hits[depth] = sum(table[depth][start + depth] for start in reached)
    return sums


def total(walks: Sequence[Walk], k: int) -> Walk:
    """The sums of several texts."""
    return Walk.of(torch.stack([Walk.empty(k).vector(), *(one.vector() for one in walks)]).sum(0))


def _shares(some: Sequence[int], whole: Sequence[int]) -> list[float]:
    return [round(part / max(1, of), 4) for part, of in zip(some, whole, strict=True)]
