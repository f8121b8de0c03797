"""Consensus AutoJudge: two drafts and a gate; the target is only asked where the gate trusts neither of them. Lossy.

Token by token the gate takes D1's choice, escalates to D2's, or falls back on the target (see toolkit.nets.gate). A
window ends there, at an EOS, at the limit of tokens, or after `max_window` of them, which changes no token. Both drafts
go on from every token that was chosen; their caches keep the text, and no prefix is read again. A gate on D1's law
alone runs D2 only where it escalates, and a method that never escalates by such a gate has no D2 at all. Without
escalation the target is asked where D2's token would have been taken. Goes with acceptance `gated`; under `rejection`
it drafts losslessly.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from toolkit.engine.cache import block
from toolkit.engine.types import Batch, Draft, Gating, LengthPolicy, TargetView, Verdict, Wants
from toolkit.errors import UserError
from toolkit.hub import ModelConfig, Models
from toolkit.nets import gate as gates
from toolkit.nets.gate import BLOCK, D1, D2, TARGET, Gate, RuleGate
from toolkit.proposers.draft_model import DraftModel


@dataclass
class Config:
    d1: ModelConfig  # the weak, cheap draft
    d2: ModelConfig  # the stronger one
    gate: str = "rule"  # or a directory that train/consensus.py wrote
    escalation: bool = True  # false: the target is asked wherever D2's token would be taken
    fallback_threshold: float | None = None  # of a learned gate; null: its own
    max_window: int = BLOCK  # tokens a round; `length` must allow as many


class Follower(DraftModel):
    """A draft that may lag behind the text by any number of tokens, committed or only drafted."""

    def read(self, batch: Batch, ends: np.ndarray) -> Tensor:
        """Feed what it lacks of each row's first ends[b] tokens -> log-law of the next one, [B, V] over target ids."""
        start, width = block(self.fed, ends)
        last = ends - 1 - start  # where each row's newest token is in the block
        ragged = bool((last < width - 1).any())
        slots = torch.from_numpy(start[:, None] + np.arange(width)).to(batch.device)
        tokens = batch.tokens.gather(1, slots)
        logits = self.runner.forward(self.cache, tokens, start, logits="all" if ragged else "last").logits
        self.fed = ends
        rows = torch.arange(len(batch), device=batch.device)
        newest = logits[rows, torch.from_numpy(last).to(batch.device)] if ragged else logits[:, -1]
        law = newest.float().log_softmax(-1)
        return law if self.vocabulary is None else self.vocabulary.spread(law)

    def settle(self, ends: np.ndarray) -> None:
        """Only the first ends[b] tokens of each row have come to stay."""
        self.fed = np.minimum(self.fed, ends)


class Consensus:
    wants = Wants()
    has_logits = False  # a window's end is the gate's business, not a length policy's
    stateful = gates = True
    learns = False

    def __init__(
        self, d1: Follower, d2: Follower | None, gate: Gate, escalation: bool, max_window: int, weights: str = ""
    ) -> None:
        self.d1, self.d2, self.gate, self.weights = d1, d2, gate, weights
        self.escalation, self.max_window = escalation, max_window
        self.drafts = [draft for draft in (d1, d2) if draft is not None]

    def prefill(self, batch: Batch, capacity: int, target: TargetView) -> None:
        for draft in self.drafts:
            draft.prefill(batch, capacity, target)
        self.streak = torch.zeros_like(batch.requests)  # [B] see toolkit.nets.gate
        self.since = torch.zeros_like(batch.requests)  # [B]

    def propose(self, batch: Batch, length: LengthPolicy) -> Draft:
        self.began = batch.lengths
        room = torch.from_numpy(batch.room).to(batch.device)  # [B]
        pending = torch.from_numpy(batch.lengths - 1).to(batch.device)
        live = torch.ones_like(room, dtype=torch.bool)
        asks = torch.zeros_like(live)
        calls = torch.zeros(len(batch), 2, dtype=torch.int64, device=batch.device)
        tokens: list[Tensor] = []  # of [B]
        valid: list[Tensor] = []
        source: list[Tensor] = []
        for depth in range(min(length.limit, self.max_window, int(batch.room.max()))):
            choice, token, agreed = self._choose(batch, depth, live)
            second = live if self.gate.features == "ensemble" else live & (choice == D2)
            calls = calls + torch.stack([live, second], 1)
            asks = asks | (live & (choice == TARGET))
            live = live & (choice != TARGET)
            further = live & ~torch.isin(token, batch.eos) & (room > depth + 1)
            some, more = torch.stack([live.any(), further.any()]).tolist()  # the one wait for the device a token
            if not some:
                break
            batch.tokens.scatter_(1, (pending + 1 + depth)[:, None], token[:, None])  # garbage is there so far
            self.streak = torch.where(live, torch.where(agreed, self.streak + 1, 0), self.streak)
            self.since = self.since + live
            tokens.append(token)
            valid.append(live)
            source.append(choice)
            live = further
            if not more:
                break
        onehot = torch.ones_like(live)
        if not tokens:
            nothing = Draft.empty(batch)
            return Draft(nothing.tokens, nothing.valid, onehot, gate=Gating(nothing.tokens, asks, calls))
        gate = Gating(torch.stack(source, 1), asks, calls)
        return Draft(torch.stack(tokens, 1), torch.stack(valid, 1), onehot, gate=gate)

    def commit(self, batch: Batch, draft: Draft, verdict: Verdict, target: TargetView) -> None:
        accepted = verdict.accepted.cpu().numpy()
        for one in self.drafts:
            one.settle(self.began + accepted)
        given = verdict.next >= 0  # the target's own token: counts begin again
        self.streak = self.streak.masked_fill(given, 0)
        self.since = self.since.masked_fill(given, 0)

    def keep(self, rows: Tensor) -> None:
        for draft in self.drafts:
            draft.keep(rows)
        on_device = rows.to(self.streak.device)
        self.streak, self.since = self.streak[on_device], self.since[on_device]

    def _choose(self, batch: Batch, depth: int, live: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """-> [B]: whose the token at `depth` is, the token (of a draft's), and whether it adds to the streak."""
        ends = batch.lengths + depth
        law1 = self.d1.read(batch, ends)
        y1 = law1.argmax(-1)
        count = (self.streak, self.since, self.gate.top, self.gate.block)
        if self.gate.features == "d1_only":
            choice = self._allowed(self.gate.choose(gates.d1_only(law1, *count)))
            token = y1
            if self.d2 is not None and (live & (choice == D2)).any():
                token = torch.where(choice == D2, self.d2.read(batch, ends).argmax(-1), y1)
            return choice, token, choice == D1
        law2 = self.d2.read(batch, ends)
        y2 = law2.argmax(-1)
        choice = self._allowed(self.gate.choose(gates.ensemble(law1, law2, *count)))
        return choice, torch.where(choice == D2, y2, y1), y1 == y2

    def _allowed(self, choice: Tensor) -> Tensor:
        return choice if self.escalation else choice.masked_fill(choice == D2, TARGET)


def build(config: Config, models: Models) -> Consensus:
    if config.max_window < 1:
        raise UserError(f"proposer consensus: max_window must be at least 1, got {config.max_window}")
    gate, made_for = _gate(config, models)
    nodes = {"d1": config.d1, "d2": config.d2}
    if not config.escalation and gate.features == "d1_only":
        del nodes["d2"]  # nobody would ask it
    drafts = {}
    for role, node in nodes.items():
        drafts[role] = Follower(models.load(node), models.fingerprint(node))
        if made_for.get(role, drafts[role].weights) != drafts[role].weights:
            raise UserError(
                f"proposer consensus: gate {config.gate} was trained with another {role} than '{node.label}' (weights "
                f"{made_for[role][:12]}... there, {drafts[role].weights[:12]}... here): give it its own, or train one."
            )
    weights = hashlib.sha256(" ".join(draft.weights for draft in drafts.values()).encode()).hexdigest()
    return Consensus(drafts["d1"], drafts.get("d2"), gate, config.escalation, config.max_window, weights)


def _gate(config: Config, models: Models) -> tuple[Gate, dict[str, str]]:
    """-> the gate, and the weights of the drafts that it was made for, by role; none of the rule's."""
    asked = config.fallback_threshold
    if asked is not None and not 0 <= asked <= 1:
        raise UserError(f"proposer consensus: fallback_threshold must be from 0 (always) to 1 (never), got {asked}")
    if config.gate != "rule":
        gate, made_for = models.gate(config.gate)
        if asked is None:
            config.fallback_threshold = gate.settings.fallback_threshold
        else:
            gate.use(asked)
        return gate, made_for
    if asked is not None:
        raise UserError("proposer consensus: fallback_threshold is of a learned gate, and this one is the rule.")
    return RuleGate(), {}
