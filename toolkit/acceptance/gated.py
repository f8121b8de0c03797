"""Consensus AutoJudge: every drafted token stands, as a gate has passed it already. Lossy, greedy only.

The target is called where the gate asked for it (proposers/consensus): one forward takes in all tokens since its last
call and gives its own choice of the next. A window that ended otherwise calls nobody and adds nothing. What the target
would have said in place of that window's tokens is counted, and never used. Tokens of windows that ended otherwise are
not counted so: those at the end of a text the target never reads, and those before a full window's end (`max_window`)
it reads in a later forward, of which a rule is shown the rows of its own window.

Counters: gate_d1, gate_d2 (tokens of each draft), gate_fallback (calls of the target, each a token of its own),
gate_seen (drafted tokens in windows that ended in a call) and gate_changed (those that it would have chosen otherwise),
gate_d1_calls and gate_d2_calls (forwards of each draft).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.acceptance._chain import lost
from toolkit.engine.types import Batch, Draft, Sampling, TargetView, Verdict, Wants
from toolkit.hub import Models
from toolkit.nets.gate import D1, D2


@dataclass
class Config:
    pass


class Gated:
    wants = Wants()
    reads: frozenset[str] = frozenset()
    needs_gate = True
    made_for = None

    def lossless(self, sampling: Sampling) -> bool:
        return False

    def verify(self, batch: Batch, draft: Draft, target: TargetView) -> Verdict:
        gate = draft.gate
        drafted = draft.valid.sum(1)
        following, changed = torch.full_like(drafted, -1), torch.zeros_like(drafted)
        if gate.asks.any():
            best = target.logits.argmax(-1)  # [B, 1+N]
            following = torch.where(gate.asks, best.gather(1, drafted[:, None]).squeeze(1), following)
            changed = (draft.valid & (draft.tokens != best[:, :-1])).sum(1)
        asked = gate.asks.long()
        notes = {
            "gate_d1": (draft.valid & (gate.source == D1)).sum(1),
            "gate_d2": (draft.valid & (gate.source == D2)).sum(1),
            "gate_fallback": asked,
            "gate_seen": drafted * asked,
            "gate_changed": changed * asked,
            "gate_d1_calls": gate.calls[:, 0],
            "gate_d2_calls": gate.calls[:, 1],
        }
        return Verdict(drafted, following, notes)

    def divergence(self, batch: Batch, draft: Draft, target: TargetView) -> Tensor:
        return lost(draft, target, draft.valid)


def build(config: Config, models: Models) -> Gated:
    return Gated()
