"""Greedy equality: does a method at temperature 0 write what plain autoregression writes?

Compared on the speed set. Where the first differing token was nearly a tie for the target (its two best logits
closer than a float's noise), both continuations are right, and that is counted apart; any other difference of a
lossless method is a bug. The gap is measured after the run, untimed: a one-token baseline step from the tokens that
both agree on.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch

from toolkit.evaluation.records import Record

GapOf = Callable[[str, list[int]], float]  # (prompt id, agreed tokens) -> top-2 logit gap of the next token


@dataclass
class Difference:
    """A row that is not what the baseline wrote. gap: None when one is a prefix of the other."""

    prompt_id: str
    seed: int
    position: int
    gap: float | None
    near_tie: bool


@dataclass
class Equality:
    """Of one method against the baseline; rate = equal / n."""

    method: str
    lossless: bool
    n: int
    equal: int
    near_ties: int
    differences: list[Difference] = field(default_factory=list)  # measured for lossless methods only

    @property
    def rate(self) -> float:
        return self.equal / self.n

    @property
    def bugs(self) -> int:
        return self.n - self.equal - self.near_ties if self.lossless else 0


def near_tie(dtype: torch.dtype) -> float:
    """The top-2 logit gap under which rounding may pick either token."""
    return 1e-3 if dtype == torch.float32 else 0.1


def first_difference(left: Sequence[int], right: Sequence[int]) -> int | None:
    """Where two texts part; the length of the shorter when it begins the other; None when equal."""
    for position, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return position
    return None if len(left) == len(right) else min(len(left), len(right))


def compare(rows: Iterable[Record], baseline: Iterable[Record], gap_of: GapOf, tolerance: float) -> Equality | None:
    """One method's greedy rows against the baseline's, prompt by prompt; None when no prompt has both."""
    base = {(row.prompt_id, row.seed, row.repeat): row for row in baseline if row.ok}
    mine = [row for row in rows if row.ok and (row.prompt_id, row.seed, row.repeat) in base]
    if not mine:
        return None
    result = Equality(mine[0].method, all(row.lossless for row in mine), len(mine), equal=0, near_ties=0)
    for row in mine:
        theirs = base[row.prompt_id, row.seed, row.repeat].tokens
        position = first_difference(row.tokens, theirs)
        if position is None:
            result.equal += 1
        elif result.lossless:
            parted = position < min(len(row.tokens), len(theirs))
            gap = gap_of(row.prompt_id, theirs[:position]) if parted else None
            tie = gap is not None and gap < tolerance
            result.near_ties += tie
            result.differences.append(Difference(row.prompt_id, row.seed, position, gap, tie))
    return result
