"""An EAGLE-3 head drafts from the target's own hidden states (Li et al. 2025): one layer a token.

Position i of the head reads the target's states of token i and the embedding of token i+1, and predicts token i+2; its
key and value go to slot i of its own cache. So the head never waits for the pending token's states, and a window begins
at the state of position L-2. Behind it the head goes on with its own states in the target's place. What it wrote from
them is written again once the verification has shown the target's states of the same tokens: a round's first forward
is over the positions that the last round verified. A prompt of one token has no position yet: its first round drafts
nothing.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from toolkit.engine import attention
from toolkit.engine.cache import SlotCache
from toolkit.engine.runner import Runner
from toolkit.engine.types import Batch, Draft, LengthPolicy, Step, TargetView, Verdict, Wants
from toolkit.engine.vocabulary import Vocabulary
from toolkit.hub import Models
from toolkit.nets.eagle3 import Eagle3
from toolkit.proposers._drafting import Chain, check_length


@dataclass
class Config:
    head: str  # a directory in the speculators format


class Eagle3Head(Chain):
    def __init__(self, target: Runner, head: Eagle3, vocabulary: Vocabulary, weights: str = "") -> None:
        self.target, self.head, self.weights = target, head, weights
        self.wants = Wants(frozenset(head.config.aux_layers))
        self._embed = target.model.get_input_embeddings()
        self._all = vocabulary

    def prefill(self, batch: Batch, capacity: int, target: TargetView) -> None:
        check_length(batch, "head", self.head.config.layer.max_position_embeddings)
        self.vocabulary = self._all.below(self.target.vocab)  # a draft that was loaded later may have cut the target
        self.cache = SlotCache(len(batch), capacity, batch.device)
        self.start = np.zeros_like(batch.lengths)  # [B] the first position whose target states are still to be read
        self.unread: dict[int, Tensor] = target.hidden  # layer -> [B, n, H]: from `start` on
        width = self.head.config.layer.hidden_size
        # [B, H] at the last position
        self.state = torch.zeros(len(batch), width, dtype=self.target.dtype, device=batch.device)
        self._read(batch)

    def propose(self, batch: Batch, length: LengthPolicy) -> Draft:
        self._read(batch)
        return super().propose(batch, length)

    def commit(self, batch: Batch, draft: Draft, verdict: Verdict, target: TargetView) -> None:
        self.unread = target.hidden

    def keep(self, rows: Tensor) -> None:
        self.cache.keep(rows)
        self.start = self.start[rows.numpy()]
        on_device = rows.to(self.state.device)
        self.state = self.state[on_device]
        self.unread = {layer: states[on_device] for layer, states in self.unread.items()}

    def _room(self, batch: Batch) -> np.ndarray:
        return np.where(batch.lengths > 1, batch.room, 0)

    def _first(self, batch: Batch) -> Step:
        return self._step(self.state)

    def _next(self, batch: Batch, token: Tensor, depth: int) -> Step:
        """Position L-1+depth: the head's own state in place of the target's."""
        self.state = self._forward(token[:, None], self.state[:, None], batch.lengths - 1 + depth)[:, 0]
        return self._step(self.state)

    def _read(self, batch: Batch) -> None:
        """Take in the target's states of all committed tokens but the pending one; keep the last position's state.

        Rows take in different numbers of positions. What lies beyond a row's own is garbage in slots that are written
        again before a query sees them.
        """
        counts = batch.lengths - 1 - self.start  # [B] positions
        width = int(counts.max())
        if width == 0:
            return
        fused = self.head.fuse([self.unread[layer][:, :width] for layer in self.head.config.aux_layers])
        slots = torch.from_numpy(self.start[:, None] + 1 + np.arange(width)).to(batch.device)
        states = self._forward(batch.tokens.gather(1, slots), fused, self.start)
        last = torch.from_numpy(counts - 1).to(batch.device).clamp_(min=0)[:, None, None]  # no position: never used
        self.state = states.gather(1, last.expand(-1, 1, states.shape[-1])).squeeze(1)
        self.start, self.unread = batch.lengths - 1, {}

    def _forward(self, tokens: Tensor, hidden: Tensor, start: np.ndarray) -> Tensor:
        """tokens [B, n]: each position's next one; hidden [B, n, H], from position start[b] on -> states [B, n, H]."""
        self.cache.begin(start, tokens.shape[1])
        return self.head(self._embed(tokens), hidden, self.cache.positions, self._attend)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        key, value = self.cache.update(key, value, 0)
        return attention.attend(self.head, query, key, value, None, slots=self.cache)[0]

    def _step(self, state: Tensor) -> Step:
        hidden = self.head.norm(state)
        return Step(self.head.lm_head(hidden)[..., : len(self.vocabulary)], hidden)


def build(config: Config, models: Models) -> Eagle3Head:
    head, vocabulary = models.head(config.head)
    return Eagle3Head(models.target, head, vocabulary, models.provenance[config.head]["fingerprint"])
