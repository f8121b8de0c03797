"""Greedy decoding by brute force: plain forwards on the whole text, one row at a time, no cache, no batch."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from transformers import PreTrainedModel

from tests.decode import exact
from tests.decode.exact import Prompt
from tests.decode.models import EOS

Passes = Callable[[np.ndarray, int, int], bool]  # raw target logits [V], candidate, place -> does it stand?


@dataclass
class Reference:
    """What a decoder should return for one request."""

    tokens: list[int] = field(default_factory=list)
    windows: list[tuple[int, int]] = field(default_factory=list)


@functools.cache
def _logits(plain: PreTrainedModel, text: Prompt) -> np.ndarray:
    return exact.logits(plain, np.array([text]))[0]


def autoregressive(target: PreTrainedModel, prompt: Prompt, limit: int) -> list[int]:
    tokens: list[int] = []
    while len(tokens) < limit and EOS not in tokens:
        tokens.append(int(_logits(target, (*prompt, *tokens)).argmax()))
    return tokens


def speculative(
    target: PreTrainedModel, draft: PreTrainedModel, prompt: Prompt, limit: int, window: int, passes: Passes
) -> Reference:
    """Windows of the draft's argmaxes, verified left to right by `passes`; then the target's argmax."""
    done = Reference()
    while len(done.tokens) < limit and EOS not in done.tokens:
        text = (*prompt, *done.tokens)
        drafted: list[int] = []
        while len(drafted) < min(window, limit - len(done.tokens) - 1) and EOS not in drafted:
            drafted.append(int(_logits(draft, (*text, *drafted)).argmax()))
        accepted = 0
        while accepted < len(drafted):
            if not passes(_logits(target, (*text, *drafted[:accepted])), drafted[accepted], accepted):
                break
            accepted += 1
        done.tokens += drafted[:accepted]
        done.windows.append((len(drafted), accepted))
        if EOS not in done.tokens:
            done.tokens.append(int(_logits(target, (*text, *drafted[:accepted])).argmax()))
    return done
