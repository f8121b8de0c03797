"""Mining as it is written down: one prompt after another, one swap after another, one token at a time.

The target decodes at batch 1 with packed weights and a KV cache, with one prefill of the prefix a swap. This is what
mining must agree with, label by label, and what its speed is measured against.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch

from toolkit.engine.runner import Runner
from toolkit.training.answers import Asked
from toolkit.training.mining_search import decoded

Label = tuple[int, int, int, bool]  # position, the target's token, the draft's token, important


class ByHand:
    def __init__(self, target: Runner, draft: Runner, limit: int) -> None:
        self.target, self.draft, self.limit = target, draft, limit
        self.eos = set(target.eos_ids)

    def labels(self, asked: Asked) -> tuple[list[Label], list[int]]:
        """-> what was decided, in order, and the answer after all unimportant swaps."""
        answer = self.text(asked.tokens, self.limit)
        alpha = asked.task.score(asked.problem, decoded(self.target.tokenizer, answer)).extracted
        if alpha is None:
            return [], answer
        gold = dataclasses.replace(asked.problem, answer=alpha)
        found: list[Label] = []
        whole = self.ended(answer)
        drafted, place = self.choices(asked.tokens, answer), 0
        while place < len(answer):
            if drafted[place] == answer[place]:
                place += 1
                continue
            swapped = [*answer[:place], drafted[place]]
            if drafted[place] not in self.eos:
                swapped += self.text([*asked.tokens, *swapped], self.limit - len(swapped))
            same = asked.task.score(gold, decoded(self.target.tokenizer, swapped)).correct
            same = same and not (whole and not self.ended(swapped))
            found.append((place, answer[place], drafted[place], not same))
            if same:
                answer = swapped
                drafted = self.choices(asked.tokens, answer)
            place += 1
        return found, answer

    def ended(self, answer: Sequence[int]) -> bool:
        """A number in half an answer is no answer, where there was a whole one before."""
        return bool(self.eos.intersection(answer[-1:]))

    def text(self, prefix: Sequence[int], room: int) -> list[int]:
        """What the target goes on with, greedily."""
        cache = self.target.cache(1, len(prefix) + room)
        if len(prefix) > 1:
            self.target.forward(cache, torch.tensor([prefix[:-1]]), np.array([0]), logits="none")
        new: list[int] = []
        token = prefix[-1]
        while len(new) < room and not self.eos.intersection(new[-1:]):
            output = self.target.forward(cache, torch.tensor([[token]]), np.array([len(prefix) - 1 + len(new)]))
            token = int(output.logits[0, 0].argmax())
            new.append(token)
        return new

    def choices(self, prompt: Sequence[int], answer: Sequence[int]) -> list[int]:
        """The draft's at every place of the answer, from one forward over everything."""
        whole = torch.tensor([[*prompt, *answer]])
        logits = self.draft.forward(self.draft.cache(1, whole.shape[1]), whole, np.array([0])).logits
        tokens = logits[0, len(prompt) - 1 : -1].argmax(-1)
        return (tokens if self.draft.vocabulary is None else self.draft.vocabulary.tokens(tokens)).tolist()
