"""Accept a mismatch too, when the target ranks the candidate among its K most likely tokens. Lossy.

At temperature 0 a candidate passes if it is in the target's top K; the first that is not is replaced by the
target's argmax. At a temperature above 0 the coin of speculative sampling is thrown first, and membership
rescues a candidate that would be rejected. K = "all" accepts everything: the control that every lossy rule
should be compared with. K = 1 at temperature 0 is greedy speculative decoding.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.acceptance._chain import coins, conclude_greedy, conclude_sampled, excess, laws, lost
from toolkit.engine.sampling import warp
from toolkit.engine.types import Batch, Draft, Sampling, TargetView, Verdict, Wants
from toolkit.errors import UserError
from toolkit.hub import Models


@dataclass
class Config:
    k: int | str = 4  # a rank, or "all"


class TopK:
    wants = Wants()
    reads: frozenset[str] = frozenset()
    needs_gate = False
    made_for = None

    def __init__(self, k: int | None) -> None:
        self.k = k  # None: all

    def lossless(self, sampling: Sampling) -> bool:
        return self.k == 1 and sampling.greedy

    def verify(self, batch: Batch, draft: Draft, target: TargetView) -> Verdict:
        member = self._member(draft.tokens[..., None], target.logits)[..., 0]
        if batch.sampling.greedy:
            return conclude_greedy(draft, member, target.logits.argmax(-1))
        logp = warp(target.logits, batch.sampling)
        return conclude_sampled(batch, draft, coins(batch, draft, logp, 1.0) | member, logp)

    def divergence(self, batch: Batch, draft: Draft, target: TargetView) -> Tensor:
        if batch.sampling.greedy:
            return lost(draft, target, self._member(draft.tokens[..., None], target.logits)[..., 0])
        p, q = laws(batch, draft, target)
        member = self._member(torch.arange(p.shape[-1], device=batch.device).expand(p.shape), target.logits)
        return excess(torch.where(member, q, torch.minimum(q, p)), p, q)

    def _member(self, tokens: Tensor, logits: Tensor) -> Tensor:
        """[B, N, m] tokens -> [B, N, m] bool: is each among the target's K most likely there?"""
        if self.k is None:
            return torch.ones_like(tokens, dtype=torch.bool)
        rows = logits[:, :-1]
        if self.k == 1:  # topk may break a tie differently from argmax
            return tokens == rows.argmax(-1, keepdim=True)
        best = rows.topk(min(self.k, rows.shape[-1]), dim=-1).indices  # [B, N, K]
        among = torch.zeros(rows.shape, dtype=torch.bool, device=rows.device).scatter_(-1, best, True)  # noqa: FBT003
        return among.gather(-1, tokens)


def build(config: Config, models: Models) -> TopK:
    if config.k == "all":
        return TopK(None)
    if isinstance(config.k, str) or config.k < 1:
        raise UserError(f"acceptance topk: k must be a rank of at least 1 or 'all', got {config.k!r}")
    return TopK(config.k)
