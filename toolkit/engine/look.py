"""A round's look at the target: its forward is run when somebody first wants to know what it says.

A rule that takes a window unseen (acceptance/gated) therefore costs no forward. The target's cache then lags behind the
text, and the next forward takes in all that was committed since the last: the same tokens at the same slots.
"""

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from toolkit.engine.cache import SlotCache, block
from toolkit.engine.runner import Output, Runner
from toolkit.engine.types import Batch, Draft, TargetView


class Look(TargetView):
    """read: [B] on the host: tokens of each row that the cache holds; `lengths - 1` unless rounds went by unseen."""

    def __init__(
        self, target: Runner, cache: SlotCache, batch: Batch, draft: Draft, read: np.ndarray, hidden: frozenset[int]
    ) -> None:
        self._target, self._cache, self._batch, self._draft = target, cache, batch, draft
        self._read, self._hidden = read, hidden
        self.taken = False  # has anybody looked?

    @property
    def logits(self) -> Tensor:
        return self._output.logits

    @property
    def hidden(self) -> dict[int, Tensor]:
        return self._output.hidden

    def over(self) -> TargetView:
        """What is left of it once the round's tokens are committed: nothing new can be asked."""
        return TargetView(self.logits, self.hidden) if self.taken else TargetView(None, {})

    @cached_property
    def _output(self) -> Output:
        """Of [pending, window] of every row, behind what was not read before."""
        self.taken = True
        batch, window = self._batch, self._draft.tokens
        pending = torch.from_numpy(batch.lengths - 1).to(batch.device)[:, None]
        if (self._read == batch.lengths - 1).all():
            tokens = torch.cat([batch.tokens.gather(1, pending), window], dim=1)  # [B, 1+N]
            return self._target.forward(self._cache, tokens, batch.lengths - 1, hidden=self._hidden)
        places = torch.arange(1 + window.shape[1], device=batch.device)
        batch.tokens.scatter_(1, pending + places[1:], window)  # garbage is there so far
        start, width = block(self._read, batch.lengths)
        slots = torch.from_numpy(start[:, None] + np.arange(width + window.shape[1])).to(batch.device)
        output = self._target.forward(self._cache, batch.tokens.gather(1, slots), start, hidden=self._hidden)
        rows = pending - slots[:, :1] + places  # [B, 1+N]
        return Output(_picked(output.logits, rows), {k: _picked(states, rows) for k, states in output.hidden.items()})


def _picked(values: Tensor, rows: Tensor) -> Tensor:
    """[B, n, D] and [B, m] -> [B, m, D]."""
    return values.gather(1, rows[..., None].expand(-1, -1, values.shape[-1]))
