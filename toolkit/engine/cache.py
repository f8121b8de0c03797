"""SlotCache: a static KV buffer written by position, where rollback is simply not advancing.

A token at position t of row b is written to slot t of row b. A rejected token's slot is written again by the
next round, and a query at position t sees slots 0..t only, so stale slots are never visible: no cropping, and
rows accept as many tokens as they like. Right-padding is written beyond a row's end and is invisible for the
same reason. Sliding-window layers keep full-length slots and get a window mask instead.
"""

import numpy as np
import torch
from torch import Tensor
from transformers import Cache


class SlotCache(Cache):
    """KV of up to `rows` rows and `capacity` tokens a row. Buffers are made at a layer's first write.

    One forward is `begin(start, width)`, then the model's calls of `update`, layer by layer.
    """

    def __init__(self, rows: int, capacity: int, device: torch.device) -> None:
        super().__init__(layers=[])
        self.rows, self.capacity, self.device = rows, capacity, device
        self._keys: dict[int, Tensor] = {}  # layer -> [rows, H_kv, capacity, D]
        self._values: dict[int, Tensor] = {}
        self._masks: dict[int | None, Tensor] = {}

    def begin(self, start: np.ndarray, width: int) -> None:
        """The next forward writes `width` tokens a row from slot start[b] on (start: [B] on the host)."""
        self._fill = int(start.max()) + width  # slots any row can see; attention reads no further
        if self._fill > self.capacity:
            raise ValueError(f"SlotCache of {self.capacity} slots cannot hold {self._fill}")
        self._aligned = int(start[0]) if (start == start[0]).all() else None  # all rows write the same slots
        offsets = torch.from_numpy(start).to(self.device, non_blocking=True)
        self.positions = offsets[:, None] + torch.arange(width, device=self.device)  # [B, n]
        self._masks = {}

    @property
    def from_empty(self) -> bool:
        """All rows write from slot 0: query i sees slots 0..i, and there are no others."""
        return self._aligned == 0

    def mask(self, dtype: torch.dtype, window: int | None = None) -> Tensor | None:
        """Additive mask [B, 1, n, fill]: a query sees its own slot and those before it (`window` of them at most).

        None where every query sees every filled slot: one token a row, rows of one length.
        """
        if window is None and self._aligned is not None and self.positions.shape[1] == 1:
            return None
        if window not in self._masks:
            slots = torch.arange(self._fill, device=self.device)
            here = self.positions[:, None, :, None]
            hidden = slots > here
            if window is not None:
                hidden = hidden | (slots <= here - window)
            lowest = torch.finfo(dtype).min
            self._masks[window] = torch.zeros(hidden.shape, dtype=dtype, device=self.device).masked_fill_(
                hidden, lowest
            )
        return self._masks[window]

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        """Write [B, H_kv, n, D] into this forward's slots -> views of the filled part, [B, H_kv, fill, D]."""
        if layer_idx not in self._keys:
            self._keys[layer_idx] = self._buffer(key_states)
            self._values[layer_idx] = self._buffer(value_states)
        return self._write(self._keys[layer_idx], key_states), self._write(self._values[layer_idx], value_states)

    def _buffer(self, states: Tensor) -> Tensor:
        _, heads, _, dim = states.shape
        return states.new_zeros(self.rows, heads, self.capacity, dim)

    def _write(self, buffer: Tensor, states: Tensor) -> Tensor:
        batch, heads, width, dim = states.shape
        live = buffer[:batch]
        if self._aligned is not None:
            live[:, :, self._aligned : self._aligned + width] = states
        else:
            live.scatter_(2, self.positions[:, None, :, None].expand(batch, heads, width, dim), states)
        return live[:, :, : self._fill]

    def keep(self, rows: Tensor) -> None:
        """Compact: new row i is old row rows[i] ([B'] int64, host). Only rows that move are copied.

        Where none is left the buffers go: a decoder that waits for its next batch holds no memory.
        """
        if not len(rows):
            self._keys, self._values, self._masks = {}, {}, {}
            return
        moved = rows != torch.arange(len(rows))
        if not moved.any():
            return
        target, source = moved.nonzero().squeeze(-1).to(self.device), rows[moved].to(self.device)
        for buffer in (*self._keys.values(), *self._values.values()):
            buffer[target] = buffer[source]

    def of(self, rows: Tensor) -> "SlotCache":
        """Some of its rows ([B'] int64, host), in that order, as a cache that writes to the same buffers."""
        return _Some(self, rows)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """transformers asks this only to guess positions and masks, and gets both explicitly."""
        return 0


class _Some(SlotCache):
    """What a forward over a few rows of a cache goes through. It reads a copy of what they hold."""

    def __init__(self, whole: SlotCache, rows: Tensor) -> None:
        super().__init__(whole.rows, whole.capacity, whole.device)
        self._keys, self._values = whole._keys, whole._values
        self._chosen = rows.to(whole.device)

    def _write(self, buffer: Tensor, states: Tensor) -> Tensor:
        buffer[self._chosen[:, None], :, self.positions] = states.transpose(1, 2)
        return buffer[self._chosen, :, : self._fill]


def block(start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, int]:
    """Tokens start[b] to end[b] of each row ([B] each) as one block -> where it begins in each row [B], its width.

    A row that has fewer is read from further back, where the same tokens are written again, so that its block ends
    where its tokens do. One that is too short for that is padded, within the longest row.
    """
    width = int((end - start).max())
    return np.maximum(end - width, 0), width
