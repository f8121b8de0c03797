"""A bandit over drafts by tokens a second: it learns while it serves, from no label and no training set.

A pull is a choice: a prompt, or with `every` so many rounds within one. Its reward is what was emitted over its share
of the time (see proposers/routed). UCB1 (Auer et al. 2002) takes the best rate plus a bonus for what was seldom tried,
both in parts of the best rate; Thompson sampling takes the best of one draw a draft from what is believed of its mean.
What it has learned lasts as long as the decoder. Rows that are asked about together spread, as a choice counts as tried
before its reward is there. With the same seed and rewards it chooses the same; rewards are times, which never are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.engine.routing import Asked, Choice
from toolkit.errors import UserError
from toolkit.hub import Models

RULES = ("ucb1", "thompson")
_DOUBT = 0.5  # deviation of a pull's rate, in parts of the mean, before there are two pulls to tell it from


@dataclass
class Config:
    rule: str = "ucb1"  # or thompson
    exploration: float = 0.3  # ucb1: weight of the bonus; 1 is the paper's, for rewards that are anything from 0 to 1
    every: int = 32  # rounds after which a text may be given another draft; 0: once a prompt
    seed: int = 0  # thompson


class Bandit:
    learns = True

    def __init__(self, drafts: int, rule: str, exploration: float, every: int, seed: int) -> None:
        self.rule, self.exploration, self.every = rule, exploration, every
        self._random = np.random.default_rng(seed)
        self.tried = np.zeros(drafts)  # choices, those whose reward is to come included
        self.pulls = np.zeros(drafts)  # rewards
        self.tokens = np.zeros(drafts)
        self.seconds = np.zeros(drafts)
        self._squares = np.zeros(drafts)  # sum over pulls of (rate - mean so far)^2, as Welford has it
        self._means = np.zeros(drafts)  # of the pulls' rates

    @property
    def rates(self) -> np.ndarray:
        """[D] tokens a second so far, over all pulls; 0 of a draft that has no reward yet."""
        return np.divide(self.tokens, self.seconds, out=np.zeros_like(self.tokens), where=self.seconds > 0)

    def choose(self, asked: Sequence[Asked]) -> list[Choice]:
        choices = []
        for one in asked:
            open = np.array(one.open)
            draft = int(open[self._scores()[open].argmax()])
            self.tried[draft] += 1
            choices.append(Choice(draft))
        return choices

    def observe(self, draft: int, tokens: int, seconds: float) -> None:
        if seconds <= 0:
            return
        self.pulls[draft] += 1
        self.tokens[draft] += tokens
        self.seconds[draft] += seconds
        away = tokens / seconds - self._means[draft]
        self._means[draft] += away / self.pulls[draft]
        self._squares[draft] += away * (tokens / seconds - self._means[draft])

    def _scores(self) -> np.ndarray:
        """[D]; the highest is chosen. Those that were never tried come first, in their order."""
        rates = self.rates
        fresh = self.tried == 0
        if self.rule == "ucb1":
            best = rates.max() or 1.0
            bonus = np.sqrt(2 * math.log(max(self.tried.sum(), 1)) / np.maximum(self.tried, 1))
            scores = rates / best + self.exploration * bonus
        else:
            # One draw a draft whatever happens, so that a seed means the same sequence of draws
            scores = self._believed() + self._spread() * self._random.standard_normal(len(rates))
        return np.where(fresh, np.inf, scores)

    def _believed(self) -> np.ndarray:
        """[D] mean rate; of a draft whose first reward is still to come: that of the others."""
        known = self.pulls > 0
        return np.where(known, self.rates, self.rates[known].mean() if known.any() else 1.0)

    def _spread(self) -> np.ndarray:
        """[D] deviation of the mean. The deviation of a pull is taken as alike for all drafts, in parts of its mean."""
        surplus = np.maximum(self.pulls - 1, 0).sum()
        believed = self._believed()
        parts = np.divide(self._squares, believed**2, out=np.zeros_like(believed), where=believed > 0).sum()
        alike = math.sqrt(parts / surplus) if surplus else _DOUBT
        return alike * believed / np.sqrt(np.maximum(self.pulls, 1))


def build(config: Config, models: Models, drafts: Sequence[str]) -> Bandit:
    for key, value, right, expected in (
        ("rule", config.rule, config.rule in RULES, f"one of {', '.join(RULES)}"),
        ("exploration", config.exploration, config.exploration >= 0, "0 or more"),
        ("every", config.every, config.every >= 0, "0 (once a prompt) or more"),
    ):
        if not right:
            raise UserError(f"router bandit: {key} is {value!r}; expected {expected}.")
    return Bandit(len(drafts), config.rule, config.exploration, config.every, config.seed)
