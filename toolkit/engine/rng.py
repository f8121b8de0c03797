"""Counter-based randomness: every draw of a decode is a pure function of what it is for.

A draw is keyed by (seed, request id, sample index, tokens committed when the round began, position in the
window, purpose, draw). Nothing is consumed in order, so a row's draws do not depend on its batch mates, and
no draw can serve twice: sharing one between draft and residual, or reusing one in a later round, biases the
output. The mixer is splitmix64 (Steele, Lea, Flood 2014), applied once per absorbed word.
"""

from copy import copy
from enum import IntEnum

import torch
from torch import Tensor


class Purpose(IntEnum):
    """What a draw is for; part of its key."""

    DRAFT = 1
    COIN = 2
    RESIDUAL = 3
    BONUS = 4


def _signed(word: int) -> int:
    """The int64 with the bits of an unsigned 64-bit word: torch has no arithmetic on uint64."""
    return word - (1 << 64) if word >= 1 << 63 else word


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_MIX_1 = _signed(0xBF58476D1CE4E5B9)
_MIX_2 = _signed(0x94D049BB133111EB)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical shift; torch's >> keeps the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _absorb(state: Tensor, word: Tensor | int) -> Tensor:
    """One splitmix64 step over state and word (any broadcastable int64 shapes); int64 wraps around as it must."""
    z = (state ^ word) + _GOLDEN
    z = (z ^ _shift_right(z, 30)) * _MIX_1
    z = (z ^ _shift_right(z, 27)) * _MIX_2
    return z ^ _shift_right(z, 31)


def request_keys(seed: int, requests: Tensor, samples: Tensor) -> Tensor:
    """[B] int64 request ids and sample indices -> [B] int64 keys, fixed for the life of the requests."""
    start = torch.full_like(requests, _signed(seed & ((1 << 64) - 1)))
    return _absorb(_absorb(_absorb(start, 0), requests), samples)


class Rng:
    """The randomness of one round: `keys` [B] from `request_keys`, `committed` [B] tokens when the round began."""

    def __init__(self, keys: Tensor, committed: Tensor) -> None:
        self._state = _absorb(keys, committed)  # [B]

    def select(self, rows: Tensor) -> "Rng":
        """That of some rows ([B'] int64, on the device), in that order: a row draws the same in any company."""
        some = copy(self)
        some._state = self._state[rows]
        return some

    def uniform(self, purpose: Purpose, position: Tensor | int, draw: int = 0) -> Tensor:
        """Uniforms in [0, 1), float64 with 52 random bits.

        position: an int or [B] -> [B]; [B, N] -> [B, N] (the place in the window the draw decides about).
        """
        state = self._state
        if isinstance(position, Tensor) and position.dim() == 2:
            state = state[:, None]
        bits = _absorb(_absorb(state, position), purpose * (1 << 32) + draw)
        return _shift_right(bits, 12).double() * 2.0**-52
