"""Prompt lookup: propose what followed the last few tokens when they occurred before (Saxena 2023; vLLM's "ngram").

The longest earlier match of the committed suffix wins, the latest one among equals. The continuation is copied the
way LZ77 copies: past the end of the text it goes on with what it has just proposed, so that a text that repeats
itself every three tokens still fills a window of eight. q is one-hot: a candidate x is accepted with probability
p(x), and on rejection p is sampled without it. The text is on the host, so the device waits for nothing.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from toolkit.engine.types import Batch, Draft, LengthPolicy, TargetView, Verdict, Wants
from toolkit.errors import UserError
from toolkit.hub import Models


@dataclass
class Config:
    min: int = 2  # shortest suffix that may match, tokens
    max: int = 4  # longest suffix compared, tokens


class NGram:
    wants = Wants()
    has_logits = stateful = gates = learns = False
    weights = ""

    def __init__(self, shortest: int, longest: int) -> None:
        self.shortest, self.longest = shortest, longest

    def prefill(self, batch: Batch, capacity: int, target: TargetView) -> None:
        self._eos = batch.eos.tolist()

    def propose(self, batch: Batch, length: LengthPolicy) -> Draft:
        limits = np.minimum(length.limit, batch.room - 1)
        windows = [
            _until_eos(lookup(batch.text[b, : batch.lengths[b]], limits[b], self.shortest, self.longest), self._eos)
            for b in range(len(batch))
        ]
        width = max(len(window) for window in windows)
        if width == 0:
            return Draft.empty(batch)
        tokens = np.zeros((len(batch), width), dtype=np.int64)
        valid = np.zeros((len(batch), width), dtype=bool)
        for b, window in enumerate(windows):
            tokens[b, : len(window)] = window
            valid[b, : len(window)] = True
        onehot = torch.ones(len(batch), dtype=torch.bool, device=batch.device)
        return Draft(torch.from_numpy(tokens).to(batch.device), torch.from_numpy(valid).to(batch.device), onehot)

    def commit(self, batch: Batch, draft: Draft, verdict: Verdict, target: TargetView) -> None:
        pass

    def keep(self, rows: Tensor) -> None:
        pass


def lookup(text: np.ndarray, limit: int, shortest: int, longest: int) -> np.ndarray:
    """The window that follows the longest earlier occurrence of the text's suffix.

    text: [L] token ids; -> [limit] ids, or none where no suffix of `shortest` to `longest` tokens occurred before.
    """
    last = len(text) - 1
    if limit <= 0 or last < shortest:
        return text[:0]
    ends = np.flatnonzero(text[shortest - 1 : last] == text[last]) + shortest - 1  # where an occurrence may end
    matched = np.ones(len(ends), dtype=np.int64)  # tokens that agree, counted backwards from each end
    agree = np.ones(len(ends), dtype=bool)
    for back in range(1, longest):
        if last - back < 0:
            break
        agree &= (ends >= back) & (text[ends - back] == text[last - back])
        matched += agree
    if len(ends) == 0 or matched.max() < shortest:
        return text[:0]
    end = ends[np.flatnonzero(matched == matched.max())[-1]]
    period = last - end
    return text[end + 1 + np.arange(limit) % period]


def _until_eos(window: np.ndarray, eos: list[int]) -> np.ndarray:
    """Nothing is proposed after an EOS: it would be thrown away."""
    for place, token in enumerate(window.tolist()):
        if token in eos:
            return window[: place + 1]
    return window


def build(config: Config, models: Models) -> NGram:
    if not 1 <= config.min <= config.max:
        raise UserError(f"proposer ngram: needs 1 <= min <= max, got min={config.min}, max={config.max}")
    return NGram(config.min, config.max)
