"""The loop that drafts a chain token by token, whatever model makes the steps."""

import numpy as np
import torch
from torch import Tensor

from toolkit.engine.rng import Purpose
from toolkit.engine.sampling import draw, warp
from toolkit.engine.types import Batch, Draft, DraftView, LengthPolicy, Notes, Step
from toolkit.engine.vocabulary import Vocabulary
from toolkit.errors import UserError


class Chain:
    """Drafts token by token. A subclass makes the steps, and says which rows it can draft for."""

    has_logits = stateful = True
    gates = learns = False
    vocabulary: Vocabulary | None  # of the logits; None: the target's

    def _room(self, batch: Batch) -> np.ndarray:
        """[B] on the host: tokens that a row may still emit; 0 where nothing can be drafted for it yet."""
        return batch.room

    def _first(self, batch: Batch) -> Step:
        """About the token behind the pending one."""
        raise NotImplementedError

    def _next(self, batch: Batch, token: Tensor, depth: int) -> Step:
        """About the token behind `token` ([B], target ids), which was drafted at `depth`."""
        raise NotImplementedError

    def propose(self, batch: Batch, length: LengthPolicy) -> Draft:
        room = self._room(batch)
        limit = min(length.limit, int(room.max()) - 1)
        if limit <= 0:
            return Draft.empty(batch)
        room = torch.from_numpy(room).to(batch.device)  # [B]
        live = room > 1  # rows that still draft
        tokens: list[Tensor] = []  # of [B], target ids
        valid: list[Tensor] = []  # of [B]
        logqs: list[Tensor] = []  # of [B, V or D]
        notes: list[Notes] = []
        steps: list[Step] = []  # what the tokens were drawn from
        step = self._first(batch)
        for depth in range(limit):
            stop, note = length.stop(DraftView(batch.requests, depth, step.logits, step.hidden))
            if stop is not None:
                live = live & ~stop
                if not live.any():  # the only wait for the device in a draft, and only for policies that decide
                    break
            token, logq = self._sample(batch, step.logits, depth)
            if self.vocabulary is not None:
                token = self.vocabulary.tokens(token)
            tokens.append(token)
            valid.append(live)
            notes.append(note)
            steps.append(step)
            if logq is not None:
                logqs.append(logq)
            live = live & ~torch.isin(token, batch.eos) & (room > depth + 2)
            if depth + 1 < limit:
                step = self._next(batch, token, depth)
        if not tokens:
            return Draft.empty(batch)
        return Draft(
            torch.stack(tokens, 1),
            torch.stack(valid, 1),
            onehot=torch.full_like(live, batch.sampling.greedy),
            logq=self._law(logqs),
            notes={name: torch.stack([note[name] for note in notes], 1) for name in notes[0]},
            steps=tuple(steps),
            vocabulary=self.vocabulary,
        )

    def _sample(self, batch: Batch, logits: Tensor, depth: int) -> tuple[Tensor, Tensor | None]:
        """-> token [B] and its warped law, both in the draft's own ids; no law where it is one-hot."""
        if batch.sampling.greedy:
            return logits.argmax(-1), None
        logq = warp(logits, batch.sampling)
        return draw(logq.exp(), batch.rng.uniform(Purpose.DRAFT, depth)), logq

    def _law(self, logqs: list[Tensor]) -> Tensor | None:
        """The window's laws over target ids, [B, N, V]."""
        if not logqs:
            return None
        logq = torch.stack(logqs, 1)
        return logq if self.vocabulary is None else self.vocabulary.spread(logq)


def check_length(batch: Batch, name: str, most: int) -> None:
    """UserError where the draft has fewer positions than a row may come to need."""
    longest = int((batch.lengths + batch.room).max())
    if longest > most:
        raise UserError(
            f"draft {name} has {most} positions, too few for {longest} tokens; "
            "lower max_new_tokens, shorten the prompt, or take a draft with a longer context"
        )
