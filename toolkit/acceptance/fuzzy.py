"""Lenient speculative sampling: accept x with probability min(1, T p(x)/q(x)), T >= 1. Lossy for T > 1.

This is the lenience of Leviathan et al. 2023 (with 1/T for their l), called "fuzzy" after the public code this
toolkit is compared with; the published Fuzzy Speculative Decoding thresholds a divergence instead. The output
law at a position is min(q, T p) + (1 - sum min(q, T p)) * residual. At temperature 0, where ratios of one-hot laws
say nothing, x passes iff T p1(x) >= max p1, p1 being the target's raw law at temperature 1 (our extension).
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from toolkit.acceptance._chain import lenient, lenient_divergence
from toolkit.engine.types import Batch, Draft, Sampling, TargetView, Verdict, Wants
from toolkit.errors import UserError
from toolkit.hub import Models


@dataclass
class Config:
    T: float = 1.5  # verification multiplier, 1 = lossless
    by_depth: list[float] = field(default_factory=list)  # T of window places 0, 1, ...; places beyond use T


class Fuzzy:
    wants = Wants()
    reads: frozenset[str] = frozenset()
    needs_gate = False
    made_for = None

    def __init__(self, lenience: float, by_depth: list[float]) -> None:
        self.lenience, self.by_depth = lenience, by_depth

    def lossless(self, sampling: Sampling) -> bool:
        return all(t == 1.0 for t in (self.lenience, *self.by_depth))

    def verify(self, batch: Batch, draft: Draft, target: TargetView) -> Verdict:
        return lenient(batch, draft, target, self._by_depth(draft.tokens.shape[1], batch.device))

    def divergence(self, batch: Batch, draft: Draft, target: TargetView) -> Tensor:
        return lenient_divergence(batch, draft, target, self._by_depth(draft.tokens.shape[1], batch.device))

    def _by_depth(self, width: int, device: torch.device) -> Tensor:
        """[N]: T of every place in the window."""
        return torch.tensor((self.by_depth + [self.lenience] * width)[:width], device=device)


def build(config: Config, models: Models) -> Fuzzy:
    wrong = [t for t in (config.T, *config.by_depth) if not (1.0 <= t < math.inf)]
    if wrong:
        raise UserError(f"acceptance fuzzy: T must be at least 1 and finite, got {wrong[0]}")
    return Fuzzy(config.T, config.by_depth)
