"""A small language model drafts, one forward a token (Leviathan et al. 2023; Chen et al. 2023).

Its cache lags behind the text by the tokens it has not been fed: the pending one, and after a fully accepted
window also that window's last token. So a round's first forward is over the last one or two tokens of every row;
feeding a token a second time writes the same KV into the same slot.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from toolkit.engine.runner import Runner
from toolkit.engine.types import Batch, Draft, Step, TargetView, Verdict, Wants
from toolkit.engine.vocabulary import Vocabulary
from toolkit.hub import ModelConfig, Models
from toolkit.proposers._drafting import Chain, check_length


@dataclass
class Config:
    model: ModelConfig


class DraftModel(Chain):
    wants = Wants()

    def __init__(self, runner: Runner, weights: str = "") -> None:
        self.runner, self.weights = runner, weights
        self._state = frozenset({runner.n_layers})  # the state after the final norm, for policies that read it

    @property
    def vocabulary(self) -> Vocabulary | None:
        return self.runner.vocabulary

    def prefill(self, batch: Batch, capacity: int, target: TargetView) -> None:
        check_length(batch, self.runner.name, self.runner.max_length)
        self.cache = self.runner.cache(len(batch), capacity)
        self.fed = batch.lengths - 1  # [B] committed tokens whose KV the cache holds
        width = int(self.fed.max())
        if width > 0:
            self.runner.forward(self.cache, batch.tokens[:, :width], np.zeros_like(self.fed), logits="none")

    def commit(self, batch: Batch, draft: Draft, verdict: Verdict, target: TargetView) -> None:
        if draft.tokens.shape[1] == 0:
            return
        # `fed` ends with the token that was pending. Accepted candidates follow it, but a window's last one was
        # sampled and never fed.
        accepted = verdict.accepted.cpu().numpy()
        self.fed = self.fed + np.minimum(accepted, draft.tokens.shape[1] - 1)

    def keep(self, rows: Tensor) -> None:
        self.cache.keep(rows)
        self.fed = self.fed[rows.numpy()]

    def _first(self, batch: Batch) -> Step:
        """Feed what the cache lacks of the committed text, the same number of tokens in every row."""
        behind = int((batch.lengths - self.fed).max())
        start = batch.lengths - behind
        slots = torch.from_numpy(start[:, None] + np.arange(behind)).to(batch.device)
        self.fed = batch.lengths
        return self._feed(batch.tokens.gather(1, slots), start)

    def _next(self, batch: Batch, token: Tensor, depth: int) -> Step:
        return self._feed(token[:, None], batch.lengths + depth)

    def _feed(self, tokens: Tensor, start: np.ndarray) -> Step:
        output = self.runner.forward(self.cache, tokens, start, logits="last", hidden=self._state)
        return Step(output.logits[:, -1], output.hidden[self.runner.n_layers][:, -1])


def build(config: Config, models: Models) -> DraftModel:
    runner = models.load(config.model)
    return DraftModel(runner, models.fingerprint(config.model))
