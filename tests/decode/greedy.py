"""Greedy decoding by brute force: plain forwards on the whole text, one row at a time, no cache, no batch."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.special import entr, rel_entr, softmax
from transformers import PreTrainedModel

from tests.decode import exact, learned
from tests.decode.exact import Prompt
from tests.decode.models import EOS

Passes = Callable[[np.ndarray, int, int], bool]  # raw target logits [V], candidate, place -> does it stand?


class Whole:
    """A policy that never ends a window. Others are told all that the target and the draft said (raw logits [V])."""

    def stops(self, draft: np.ndarray, place: int) -> bool:
        return False

    def observe(self, said: list[tuple[np.ndarray, np.ndarray]]) -> None:
        """A round is over; (target, draft) at each of its places up to and including the first rejection."""


class ByState(Whole):
    """JointAdaSpec over drafts that have the target's tokens."""

    def __init__(self, kappa: float) -> None:
        self.kappa, self.k_prev = kappa, 0.0
        self._chosen: list[float] = []  # T by place of the round

    def stops(self, draft: np.ndarray, place: int) -> bool:
        entropy = entr(softmax(draft)).sum()[None]
        [multiplier] = learned.lenience(entropy, learned.lag(np.array(self.k_prev)), place, self.kappa)
        self._chosen = [*self._chosen[:place], float(multiplier)]
        return multiplier == 0

    def passes(self, target: np.ndarray, token: int, place: int) -> bool:
        p = softmax(target)
        return bool(token == p.argmax() or self._chosen[place] * p[token] >= p.max())

    def observe(self, said: list[tuple[np.ndarray, np.ndarray]]) -> None:
        if said:
            self.k_prev = float(np.mean([rel_entr(softmax(q), softmax(p)).sum() for p, q in said]))


@dataclass
class Reference:
    """What a decoder should return for one request."""

    tokens: list[int] = field(default_factory=list)
    windows: list[tuple[int, int]] = field(default_factory=list)
    rejected: list[list[int]] = field(default_factory=list)

    @property
    def whole(self) -> tuple[object, ...]:
        return self.tokens, self.windows, self.rejected


@functools.cache
def _logits(plain: PreTrainedModel, text: Prompt) -> np.ndarray:
    return exact.logits(plain, np.array([text]))[0]


def autoregressive(target: PreTrainedModel, prompt: Prompt, limit: int) -> list[int]:
    tokens: list[int] = []
    while len(tokens) < limit and EOS not in tokens:
        tokens.append(int(_logits(target, (*prompt, *tokens)).argmax()))
    return tokens


def speculative(
    target: PreTrainedModel,
    draft: PreTrainedModel,
    prompt: Prompt,
    limit: int,
    window: int,
    passes: Passes,
    policy: Whole | None = None,
) -> Reference:
    """Windows of the draft's argmaxes, verified left to right by `passes`; then the target's argmax."""
    done, policy = Reference(), policy or Whole()
    while len(done.tokens) < limit and EOS not in done.tokens:
        text = (*prompt, *done.tokens)
        drafted: list[int] = []
        while len(drafted) < min(window, limit - len(done.tokens) - 1) and EOS not in drafted:
            said = _logits(draft, (*text, *drafted))
            if policy.stops(said, len(drafted)):
                break
            drafted.append(int(said.argmax()))
        accepted = 0
        while accepted < len(drafted):
            if not passes(_logits(target, (*text, *drafted[:accepted])), drafted[accepted], accepted):
                break
            accepted += 1
        verified = [(*text, *drafted[:place]) for place in range(min(accepted + 1, len(drafted)))]
        policy.observe([(_logits(target, prefix), _logits(draft, prefix)) for prefix in verified])
        done.tokens += drafted[:accepted]
        done.windows.append((len(drafted), accepted))
        done.rejected.append(drafted[accepted:])
        if EOS not in done.tokens:
            done.tokens.append(int(_logits(target, (*text, *drafted[:accepted])).argmax()))
    return done
