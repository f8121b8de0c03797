"""Rows that go on with other requests: every text is that of a request alone, and nothing known is read again."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.decode import greedy
from tests.decode.caches import ragged
from tests.decode.models import SLIDING, TARGETS, VOCAB, Recipe, build, draft_recipe, model, target_recipe
from toolkit.acceptance.rejection import Rejection
from toolkit.engine.cache import SlotCache, block
from toolkit.engine.loop import SpecDecoder
from toolkit.engine.runner import Runner
from toolkit.engine.types import Generation, Proposer, Request, Sampling
from toolkit.errors import UserError
from toolkit.lengths.fixed import Fixed
from toolkit.nets.gate import RuleGate
from toolkit.proposers.consensus import Consensus, Follower
from toolkit.proposers.draft_model import DraftModel
from toolkit.proposers.ngram import NGram
from toolkit.proposers.none import Nothing

SAMPLING = Sampling(max_new_tokens=14)
PROMPTS = ragged(40, longest=9, vocab=VOCAB)
ROWS = 5


class Line:
    """Requests that wait, some of which begin as the text that has just ended does."""

    longest = 60

    def __init__(self, waiting: Sequence[Request]) -> None:
        self.waiting, self.asked = list(waiting), []

    def after(self, ended: Sequence[Generation]) -> list[Request | None]:
        return [self._next(one) for one in ended]

    def _next(self, ended: Generation) -> Request | None:
        if not self.waiting:
            return None
        request = self.waiting.pop(0)
        if request.id % 3 == 0:  # goes on with a part of the ended one's text, and one token of its own
            kept = next(one for one in self.asked if one.id == ended.id).prompt
            request = Request(request.id, (*kept, *ended.tokens[: request.id % 5], request.prompt[0]), limit=4)
        self.asked.append(request)
        return request


def decode(proposer: Proposer, target: Runner, sampling: Sampling = SAMPLING) -> tuple[Line, list[Generation]]:
    requests = [Request(i, prompt, limit=3 + i % 12) for i, prompt in enumerate(PROMPTS)]
    line = Line(requests[ROWS:])
    line.asked += requests[:ROWS]
    return line, SpecDecoder(target, proposer, Fixed(4), Rejection()).generate(requests[:ROWS], sampling, feed=line)


@pytest.mark.parametrize("proposer", [Nothing(), NGram(1, 3)], ids=lambda piece: type(piece).__name__)
@pytest.mark.parametrize("target", [*TARGETS.values(), SLIDING], ids=lambda recipe: recipe.family)
def test_texts_are_those_of_requests_alone(target: Recipe, proposer: Proposer) -> None:
    plain = model(target).plain
    line, done = decode(proposer, model(target).runner)
    assert [one.id for one in done] == [one.id for one in line.asked] == list(range(len(PROMPTS)))
    for request, generation in zip(line.asked, done, strict=True):
        # An EOS in a prompt is a token like others
        assert generation.tokens == greedy.autoregressive(plain, request.prompt, request.limit)
        assert generation.prompt_tokens == len(request.prompt)


def test_windows_are_those_of_requests_alone() -> None:
    """What was rejected stays with the request, not with the row."""
    runner = model(target_recipe("llama")).runner
    line, done = decode(NGram(1, 3), runner)
    alone = SpecDecoder(runner, NGram(1, 3), Fixed(4), Rejection())
    for request, generation in zip(line.asked, done, strict=True):
        [wanted] = alone.generate([request], SAMPLING)
        assert (generation.windows, generation.rejected) == (wanted.windows, wanted.rejected)
    assert sum(map(len, (rejected for one in done for rejected in one.rejected))) >= 20


def test_the_sliding_window_matters() -> None:
    """Else texts would be the same with full attention, and the tests above and of the gate would know less."""
    whole = replace(SLIDING, sliding=64)
    texts = [[greedy.autoregressive(model(one).plain, prompt, 12) for prompt in PROMPTS] for one in (SLIDING, whole)]
    assert sum(a != b for a, b in zip(*texts, strict=True)) >= 5


def test_draws_are_those_of_requests_alone() -> None:
    """A request's randomness is its own, whatever row it is in."""
    sampling, runner = Sampling(1.0, max_new_tokens=14, seed=3), model(target_recipe("llama")).runner
    line, done = decode(Nothing(), runner, sampling)
    alone = SpecDecoder(runner, Nothing(), Fixed(4), Rejection())
    for request, generation in zip(line.asked, done, strict=True):
        assert alone.generate([request], sampling)[0].tokens == generation.tokens


class Counting(Runner):
    seen: list[int]

    def forward(self, cache, tokens, start, **options):  # noqa: ANN001, ANN003, ANN201
        self.seen.append(tokens.numel())
        return super().forward(cache, tokens, start, **options)


def test_what_is_known_is_not_read_again() -> None:
    """A row that goes on with its own text and one more token reads that token, in the next round."""

    class Again:
        longest = 9 + 14

        def __init__(self) -> None:
            self.left, self.texts = 4, {0: PROMPTS[8]}

        def after(self, ended: Sequence[Generation]) -> list[Request | None]:
            self.left -= 1
            self.texts[0] = (*self.texts[0], *ended[0].tokens[:-1], 1)
            return [Request(0, self.texts[0], limit=3) if self.left else None]

    runner = Counting(build(target_recipe("llama")))
    runner.seen = []
    decoder = SpecDecoder(runner, Nothing(), Fixed(1), Rejection())
    decoder.generate([Request(0, PROMPTS[8], limit=3)], SAMPLING, feed=Again())
    assert runner.seen[0] == len(PROMPTS[8]) - 1 and set(runner.seen[1:]) == {1}


def drafts() -> list[Proposer]:
    """They keep what they have read of a row, whether or not a length policy can look on as they draft."""
    runner = model(draft_recipe("llama", "near")).runner
    return [DraftModel(runner), Consensus(Follower(runner), Follower(runner), RuleGate(), True, 4)]


@pytest.mark.parametrize("draft", drafts(), ids=lambda piece: type(piece).__name__)
def test_a_proposer_that_keeps_a_row_is_refused(draft: Proposer) -> None:
    with pytest.raises(ValueError, match="cannot go on with another request"):
        decode(draft, model(target_recipe("llama")).runner)


def test_a_request_that_does_not_fit_is_refused() -> None:
    class Long:
        longest = 60

        def after(self, ended: Sequence[Generation]) -> list[Request | None]:
            return [Request(1, PROMPTS[8] * 7, limit=4) for _ in ended]

    decoder = SpecDecoder(model(target_recipe("llama")).runner, Nothing(), Fixed(1), Rejection())
    with pytest.raises(UserError, match=r"request 1: 63 prompt tokens \+ max_new_tokens 4 exceed the 64 positions"):
        decoder.generate([Request(0, PROMPTS[0])], SAMPLING, feed=Long())


def test_some_rows_of_a_cache() -> None:
    """Reading into rows 3 and 1 alone leaves the others as they are, and is what reading into a cache of two gives."""
    runner = model(target_recipe("llama")).runner
    whole, rows = runner.cache(4, 12), torch.tensor([3, 1])
    first, second = (torch.arange(n).view(4, -1) % VOCAB for n in (16, 24))
    runner.forward(whole, first, np.zeros(4, dtype=np.int64))
    before = whole._keys[0].clone()
    start = np.array([2, 4])
    some = runner.forward(whole.of(rows), second[rows], start).logits
    assert torch.equal(whole._keys[0][[0, 2]], before[[0, 2]])
    apart = SlotCache(2, 12, runner.device)
    runner.forward(apart, first[rows], np.zeros(2, dtype=np.int64))
    assert torch.allclose(runner.forward(apart, second[rows], start).logits, some, atol=1e-5)


def test_blocks_end_where_their_rows_do() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        end = rng.integers(1, 30, 4)
        begin = rng.integers(0, end)
        start, width = block(begin, end)
        assert (start >= 0).all() and (start <= begin).all() and (start + width >= end).all()
        assert (start + width).max() <= end.max(), "nothing lies beyond the longest row"
        assert width == (end - begin).max()
