"""What mined continuations are decoded with: one token that the target did not choose, then its own greedy text.

A request's first window begins with the token that is swapped in, which stands whatever the target thinks of it. Behind
it the former answer is proposed, from where it last agreed with the new one: most swaps change a few words. What is
proposed is verified greedily, so it decides how fast a continuation is decoded and never what it says.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from toolkit.acceptance._chain import conclude_greedy
from toolkit.acceptance.rejection import Rejection
from toolkit.engine.types import Batch, Draft, LengthPolicy, Sampling, TargetView, Verdict, Wants

SWAPPED = "swapped"  # note: [B, N] bool, the places that hold a swapped token
_LONGEST = 8  # tokens of agreement that are looked for


@dataclass
class Swap:
    """A request whose first token is given, and the text that it is swapped into."""

    token: int
    former: np.ndarray  # [L] prompt and answer
    shift: int = 0  # a place of the new text, and the place of the former one that it goes on from


class Recall:
    """Proposes what followed in the former text. Requests without a swap get no proposals."""

    wants = Wants()
    has_logits = stateful = gates = learns = False
    weights = ""

    def __init__(self) -> None:
        self.swaps: dict[int, Swap] = {}  # by request
        self.begun: list[int] = []  # rows of this round whose first token is swapped in
        self._fresh: set[int] = set()

    def swap(self, request: int, swap: Swap) -> None:
        """A request is about to begin."""
        self.swaps[request] = swap
        self._fresh.add(request)

    def prefill(self, batch: Batch, capacity: int, target: TargetView) -> None:
        self._eos = frozenset(batch.eos.tolist())

    def propose(self, batch: Batch, length: LengthPolicy) -> Draft:
        windows = [
            self._window(request, batch.text[b, : batch.lengths[b]], min(length.limit, int(batch.room[b]) - 1))
            for b, request in enumerate(batch.requests.tolist())
        ]
        width = max(len(window) for window, _ in windows)
        tokens = np.zeros((len(batch), width), dtype=np.int64)
        valid = np.zeros((len(batch), width), dtype=bool)
        for b, (window, _) in enumerate(windows):
            tokens[b, : len(window)] = window
            valid[b, : len(window)] = True
        self.begun = [b for b, (_, fresh) in enumerate(windows) if fresh]
        swapped = np.zeros((len(batch), width), dtype=bool)
        swapped[self.begun, :1] = True
        on_device = [torch.from_numpy(array).to(batch.device) for array in (tokens, valid, swapped)]
        onehot = torch.ones(len(batch), dtype=torch.bool, device=batch.device)
        return Draft(*on_device[:2], onehot, notes={SWAPPED: on_device[2]})

    def commit(self, batch: Batch, draft: Draft, verdict: Verdict, target: TargetView) -> None:
        pass

    def keep(self, rows: Tensor) -> None:
        pass

    def _window(self, request: int, text: np.ndarray, limit: int) -> tuple[list[int], bool]:
        """-> (candidates, whether the first of them is swapped in). A swap needs no room for another token."""
        swap = self.swaps.get(request)
        if swap is None:
            return [], False
        fresh = request in self._fresh
        self._fresh.discard(request)
        window = [swap.token] if fresh else []
        if limit > len(window) and not self._eos.intersection(window):
            text = np.concatenate([text, np.array(window, dtype=np.int64)])
            swap.shift = aligned(swap.former, text, swap.shift)
            start = len(text) + swap.shift
            for token in swap.former[start : start + limit - len(window)].tolist():
                window.append(token)
                if token in self._eos:
                    break
        return window, fresh


def aligned(former: np.ndarray, text: np.ndarray, shift: int) -> int:
    """By how much the former text is ahead where it last agreed with the end of `text`.

    The longest agreement of two tokens or more, nearest to where it was looked for before; without one, as before: one
    word in the place of another.
    """
    matched = np.zeros(len(former) + 1, dtype=np.int64)  # at j: tokens before place j that are the last ones of `text`
    agree = np.ones(len(former) + 1, dtype=bool)
    for back in range(1, min(_LONGEST, len(text), len(former)) + 1):
        agree[:back] = False
        agree[back:] &= former[: len(former) + 1 - back] == text[-back]
        if not agree.any():
            break
        matched += agree
    if matched.max() < 2:
        return shift
    shifts = np.flatnonzero(matched == matched.max()) - len(text)
    return int(shifts[np.abs(shifts - shift).argmin()])


class Swapping(Rejection):
    """Greedy verification, in which a swapped token stands."""

    def lossless(self, sampling: Sampling) -> bool:
        return False

    def verify(self, batch: Batch, draft: Draft, target: TargetView) -> Verdict:
        best = target.logits.argmax(-1)  # [B, 1+N]
        return conclude_greedy(draft, (draft.tokens == best[:, :-1]) | draft.notes[SWAPPED], best)
