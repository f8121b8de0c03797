"""Speculative sampling: the output has exactly the target's law (Leviathan et al. 2023; Chen et al. 2023).

Accept x with probability min(1, p(x)/q(x)); on the first rejection draw from max(0, p - q), after a full window
draw a bonus token from p. At temperature 0: accept while the draft names the target's argmax.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.acceptance._chain import coins, conclude_greedy, conclude_sampled
from toolkit.engine.sampling import warp
from toolkit.engine.types import Batch, Draft, Sampling, TargetView, Verdict, Wants
from toolkit.hub import Models


@dataclass
class Config:
    pass


class Rejection:
    wants = Wants()
    reads: frozenset[str] = frozenset()
    needs_gate = False
    made_for = None

    def lossless(self, sampling: Sampling) -> bool:
        return True

    def verify(self, batch: Batch, draft: Draft, target: TargetView) -> Verdict:
        if batch.sampling.greedy:
            best = target.logits.argmax(-1)  # [B, 1+N]
            return conclude_greedy(draft, draft.tokens == best[:, :-1], best)
        logp = warp(target.logits, batch.sampling)  # [B, 1+N, V]
        return conclude_sampled(batch, draft, coins(batch, draft, logp, 1.0), logp)

    def divergence(self, batch: Batch, draft: Draft, target: TargetView) -> Tensor:
        return torch.zeros(draft.tokens.shape, device=batch.device)


def build(config: Config, models: Models) -> Rejection:
    return Rejection()
