"""JointAdaSpec's acceptance: speculative sampling made lenient token by token, by the T that its length policy chose.

The policy that decides to draft a token notes how leniently it is to be verified (lengths/jointadaspec); here a token
stands with probability min(1, T p(x)/q(x)), as under acceptance/fuzzy. With T = 1 in every state that drafts, lossless.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.acceptance._chain import lenient, lenient_divergence
from toolkit.engine.types import Batch, Draft, Sampling, TargetView, Verdict, Wants
from toolkit.hub import Models


@dataclass
class Config:
    policy: str  # a directory that train/jointadaspec.py wrote; policy, kappa and order as the length policy has them
    kappa: float = 1.0
    order: str = "joint"


class JointAdaSpec:
    wants = Wants()
    needs_gate = False
    made_for = None  # its length policy is; the note that it reads is of that very policy

    def __init__(self, note: str, exact: bool) -> None:
        self.note, self.exact, self.reads = note, exact, frozenset({note})

    def lossless(self, sampling: Sampling) -> bool:
        return self.exact

    def verify(self, batch: Batch, draft: Draft, target: TargetView) -> Verdict:
        return lenient(batch, draft, target, self._lenience(draft))

    def divergence(self, batch: Batch, draft: Draft, target: TargetView) -> Tensor:
        return lenient_divergence(batch, draft, target, self._lenience(draft))

    def _lenience(self, draft: Draft) -> Tensor:
        """[B, N]: T of every place."""
        if draft.tokens.shape[1] == 0:  # an ordinary step, of which nothing was noted
            return torch.ones_like(draft.tokens, dtype=torch.float32)
        return draft.notes[self.note]


def build(config: Config, models: Models) -> JointAdaSpec:
    policy, _ = models.policy(config.policy)
    solution = policy.solution(config.order, config.kappa, f"acceptance jointadaspec: {config.policy}")
    return JointAdaSpec(policy.note(solution), solution.exact)
