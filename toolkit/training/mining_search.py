"""Which of a draft's tokens may stand in a target's answer: AutoJudge's semi-greedy search, for many prompts at once.

For one prompt (Garipov et al. 2025, arXiv 2504.20039, algorithm 1): y is the target's greedy answer, alpha what the
task reads from it. At the first place t where the draft, teacher-forced on y, would have said something else, the
draft's token is swapped in and the target goes on from there. If the new text has the same answer, the token is
unimportant and the new text is y; else, or where the text now runs into the limit, it is important and y stays. Then
comes the next such place behind t. Only the search of one prompt is a sequence, so each row of a running batch is the
current continuation of one prompt.
"""

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from toolkit.engine.loop import SpecDecoder
from toolkit.engine.runner import Runner
from toolkit.engine.statistics import judged
from toolkit.engine.types import Batch, Draft, Generation, Request, Sampling, TargetView, Verdict, Wants
from toolkit.errors import UserError
from toolkit.lengths.fixed import Fixed
from toolkit.nets.judge import COLUMNS
from toolkit.training.answers import Asked
from toolkit.training.mining_draft import TeacherForced
from toolkit.training.mining_pieces import Recall, Swap, Swapping

_GREEDY = Sampling()


@dataclass
class Mismatch:
    """A place where the draft would have said something else than the target's answer."""

    position: int  # in the answer
    target_token: int
    draft_token: int
    important: bool = False
    law: Tensor | None = None  # [D] the draft's raw logits: from when it is to be tried until `laws` are made of them
    laws: dict[str, float] = field(default_factory=dict)
    target_hidden: np.ndarray | None = None  # [H] float16, of the draft's token in the target's place
    draft_hidden: np.ndarray | None = None


@dataclass
class Search:
    """One prompt's search."""

    asked: Asked
    row: int  # of the draft's cache
    begun: float  # clock
    first: list[int] | None = None  # the target's own answer
    alpha: str | None = None
    ended: bool = False  # whether the first answer came to an end before the limit
    answer: list[int] = field(default_factory=list)  # y
    left: deque[Mismatch] = field(default_factory=deque)  # in order; the first is being tried
    decided: list[Mismatch] = field(default_factory=list)
    decoded: int = 0  # tokens of continuations
    seconds: float = 0.0  # from beginning to end, among the others of its batch

    def text(self, answer: Sequence[int]) -> np.ndarray:
        return np.array([*self.asked.tokens, *answer], dtype=np.int64)

    def agrees(self, text: str) -> bool:
        """Whether the task calls the text's answer the same as alpha."""
        return bool(self.asked.task.score(dataclasses.replace(self.asked.problem, answer=self.alpha), text).correct)

    def judge(self, generation: Generation, decode: Callable[[list[int]], str]) -> int | None:
        """What came of the place that was tried -> where the answer has changed, if it has."""
        tried, tokens = self.left.popleft(), generation.tokens
        candidate = [*self.answer[: tried.position], *tokens]
        tried.important = _ended(generation) < self.ended or not self.agrees(decode(candidate))
        self.decided.append(tried)
        self.decoded += len(tokens)
        if tried.important:
            return None
        self.answer = candidate
        return tried.position + 1


class Miner:
    """Searches of many prompts, `batch` at a time. It is what the decoder's rows go on with, and looks on as they run.

    states: keep the hidden states of these (target, draft). done: called with each search that has ended.
    """

    def __init__(
        self,
        target: Runner,
        draft: Runner,
        *,
        limit: int,
        batch: int,
        window: int,
        states: Sequence[str],
        done: Callable[[Search], None],
    ) -> None:
        self.wants = Wants(frozenset({target.n_layers}) if "target" in states else frozenset())
        self.longest = 0
        self._target, self._draft, self._limit, self._batch, self._done = target, draft, limit, batch, done
        self._draft_states = "draft" in states
        self._recall = Recall()
        self._decoder = SpecDecoder(target, self._recall, Fixed(window), Swapping(), trace=self)
        self._live: dict[int, Search] = {}
        self._waiting: deque[Asked] = deque()

    def run(self, prompts: Sequence[Asked]) -> None:
        """Search them all."""
        if not prompts:
            return
        self.longest = max(len(one.tokens) for one in prompts) + self._limit
        if self.longest > self._draft.max_length:
            raise UserError(
                f"draft {self._draft.name} has {self._draft.max_length} positions, too few for {self.longest} tokens; "
                "lower mine.max_new_tokens, or take a draft with a longer context"
            )
        self._reader = TeacherForced(self._draft, min(self._batch, len(prompts)), self.longest)
        self._waiting = deque(prompts)
        requests = [self._begin(row) for row in range(min(self._batch, len(prompts)))]
        self._decoder.generate(requests, Sampling(max_new_tokens=self._limit), feed=self)

    def after(self, ended: Sequence[Generation]) -> list[Request | None]:
        """Judge what has ended, find the mismatches of answers that have changed, and go on."""
        searches = [self._live[generation.id] for generation in ended]
        changed = []  # search, the first place of its answer where the draft may say something new
        for search, generation in zip(searches, ended, strict=True):
            if search.first is None:
                self._open(search, generation)
                place = None if search.alpha is None else 0
            else:
                place = search.judge(generation, self._decode)
            if place is not None:
                changed.append((search, place))
        self._compare(changed)
        self._read([search for search in searches if search.left])
        return [self._next(search) for search in searches]

    def round(
        self, batch: Batch, draft: Draft, verdict: Verdict, target: TargetView, drafting: float, verifying: float
    ) -> None:
        """A swapped token is the first candidate of a window: the row before it judges it, the next one encodes it."""
        if not self._recall.begun:
            return
        rows = torch.tensor(self._recall.begun, device=batch.device)
        tried = [self._live[request].left[0] for request in batch.requests[rows].tolist()]
        q = torch.stack([one.law for one in tried])
        columns = judged(target.logits[rows, 0], q, draft.tokens[rows, 0], self._draft.vocabulary, _GREEDY, (1.0,))
        table = torch.stack([columns[name] for name in COLUMNS], 1).tolist()
        for one, values in zip(tried, table, strict=True):
            one.laws, one.law = dict(zip(COLUMNS, values, strict=True)), None
        for layer in self.wants.target_layers:
            for one, state in zip(tried, target.hidden[layer][rows, 1].half().cpu().numpy(), strict=True):
                one.target_hidden = state

    def _begin(self, row: int) -> Request:
        """The next prompt that waits: first comes the target's own answer."""
        asked = self._waiting.popleft()
        self._live[asked.number] = Search(asked, row, time.perf_counter())
        return Request(asked.number, asked.tokens)

    def _open(self, search: Search, generation: Generation) -> None:
        search.first, search.answer, search.ended = generation.tokens, generation.tokens, _ended(generation)
        text = self._decode(generation.tokens)
        search.alpha = search.asked.task.score(search.asked.problem, text).extracted

    def _compare(self, changed: Sequence[tuple[Search, int]]) -> None:
        """Where the draft disagrees with these answers, from a place of each on."""
        for search, _ in changed:
            search.left.clear()
        changed = [(search, place) for search, place in changed if place < len(search.answer)]
        if not changed:
            return
        laws = self._reader.laws(
            [search.row for search, _ in changed],
            [search.text(search.answer[:-1]) for search, _ in changed],
            [len(search.asked.tokens) + place - 1 for search, place in changed],
        )
        for (search, place), logits in zip(changed, laws, strict=True):
            choices = self._reader.choices(logits)
            own = np.array(search.answer[place:])
            for at in np.flatnonzero(choices != own).tolist():
                search.left.append(Mismatch(place + at, int(own[at]), int(choices[at])))

    def _read(self, searches: Sequence[Search]) -> None:
        """The draft's law where the next token is to be swapped in, and its state of that token.

        Read again, place by place: the laws of all places of all answers would fill the memory.
        """
        if not searches:
            return
        rows, tried = [search.row for search in searches], [search.left[0] for search in searches]
        texts = [search.text(search.answer[: one.position]) for search, one in zip(searches, tried, strict=True)]
        for one, law in zip(tried, self._reader.laws(rows, texts, [len(text) - 1 for text in texts]), strict=True):
            one.law = law[0].clone()
        if self._draft_states:
            texts = [np.append(text, one.draft_token) for text, one in zip(texts, tried, strict=True)]
            states = self._reader.states(rows, texts).half().cpu().numpy()
            for one, state in zip(tried, states, strict=True):
                one.draft_hidden = state

    def _next(self, search: Search) -> Request | None:
        """What goes on in a search's row: its next swap, or another prompt."""
        if search.left:
            tried = search.left[0]
            number = search.asked.number
            self._recall.swap(number, Swap(tried.draft_token, search.text(search.answer)))
            prefix = search.answer[: tried.position]
            return Request(number, (*search.asked.tokens, *prefix), limit=self._limit - tried.position)
        search.seconds = time.perf_counter() - search.begun
        del self._live[search.asked.number]
        self._recall.swaps.pop(search.asked.number, None)
        self._done(search)
        return self._begin(search.row) if self._waiting else None

    def _decode(self, tokens: list[int]) -> str:
        return decoded(self._target.tokenizer, tokens)


def decoded(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> str:
    """The whole answer at once, so that its text is the same however it was put together."""
    return tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def _ended(generation: Generation) -> bool:
    """Did it come to an end before the limit? A number in half an answer is no answer, as in evaluation."""
    return generation.finish != "length"
