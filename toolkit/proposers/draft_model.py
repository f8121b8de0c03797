"""A small language model drafts, one forward a token (Leviathan et al. 2023; Chen et al. 2023).

Its cache lags behind the text by the tokens it has not been fed: the pending one, and after a fully accepted
window also that window's last token. So a round's first forward is over the last one or two tokens of every row;
feeding a token a second time writes the same KV into the same slot.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from toolkit.engine.rng import Purpose
from toolkit.engine.runner import Output, Runner
from toolkit.engine.sampling import draw, warp
from toolkit.engine.types import Batch, Draft, DraftView, LengthPolicy, Notes, TargetView, Verdict, Wants
from toolkit.errors import UserError
from toolkit.hub import ModelConfig, Models


@dataclass
class Config:
    model: ModelConfig


class DraftModel:
    wants = Wants()
    has_logits = True

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self._state = frozenset({runner.n_layers})  # the state after the final norm, for policies that read it

    def prefill(self, batch: Batch, capacity: int, target: TargetView) -> None:
        longest = int((batch.lengths + batch.room).max())
        if longest > self.runner.max_length:
            raise UserError(
                f"draft {self.runner.name} has {self.runner.max_length} positions, too few for {longest} tokens; "
                "lower max_new_tokens, shorten the prompt, or take a draft with a longer context"
            )
        self.cache = self.runner.cache(len(batch), capacity)
        self.fed = batch.lengths - 1  # [B] committed tokens whose KV the cache holds
        width = int(self.fed.max())
        if width > 0:
            self.runner.forward(self.cache, batch.tokens[:, :width], np.zeros_like(self.fed), logits="none")

    def propose(self, batch: Batch, length: LengthPolicy) -> Draft:
        limit = min(length.limit, int(batch.room.max()) - 1)
        if limit <= 0:
            return Draft.empty(batch)
        room = torch.from_numpy(batch.room).to(batch.device)  # [B]
        live = room > 1  # rows that still draft
        tokens: list[Tensor] = []  # of [B]
        valid: list[Tensor] = []  # of [B]
        logqs: list[Tensor] = []  # of [B, V]
        notes: list[Notes] = []
        output = self._catch_up(batch)
        for depth in range(limit):
            logits = output.logits[:, -1]  # [B, V]
            hidden = output.hidden[self.runner.n_layers][:, -1]
            stop, note = length.stop(DraftView(batch.requests, depth, logits, hidden))
            if stop is not None:
                live = live & ~stop
                if not live.any():  # the only wait for the device in a draft, and only for policies that decide
                    break
            token, logq = self._sample(batch, logits, depth)
            tokens.append(token)
            valid.append(live)
            notes.append(note)
            if logq is not None:
                logqs.append(logq)
            live = live & ~torch.isin(token, batch.eos) & (room > depth + 2)
            if depth + 1 < limit:
                output = self._feed(token[:, None], batch.lengths + depth)
        if not tokens:
            return Draft.empty(batch)
        return Draft(
            torch.stack(tokens, 1),
            torch.stack(valid, 1),
            onehot=torch.full_like(live, batch.sampling.greedy),
            logq=torch.stack(logqs, 1) if logqs else None,
            notes={name: torch.stack([note[name] for note in notes], 1) for name in notes[0]},
        )

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

    def _catch_up(self, batch: Batch) -> Output:
        """Feed what the cache lacks of the committed text, the same number of tokens in every row."""
        behind = int((batch.lengths - self.fed).max())
        start = batch.lengths - behind
        slots = torch.from_numpy(start[:, None] + np.arange(behind)).to(batch.device)
        self.fed = batch.lengths
        return self._feed(batch.tokens.gather(1, slots), start)

    def _feed(self, tokens: Tensor, start: np.ndarray) -> Output:
        return self.runner.forward(self.cache, tokens, start, logits="last", hidden=self._state)

    def _sample(self, batch: Batch, logits: Tensor, depth: int) -> tuple[Tensor, Tensor | None]:
        """-> token [B], and its warped law [B, V] unless that is one-hot."""
        if batch.sampling.greedy:
            return logits.argmax(-1), None
        logq = warp(logits, batch.sampling)
        return draw(logq.exp(), batch.rng.uniform(Purpose.DRAFT, depth)), logq


def build(config: Config, models: Models) -> DraftModel:
    return DraftModel(models.load(config.model))
