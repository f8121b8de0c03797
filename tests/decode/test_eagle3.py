"""While decoding, an EAGLE-3 head says what a teacher-forced pass over the same text says."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.decode.caches import Watched, Worst, ragged
from tests.decode.heads import Drafting, random_head
from toolkit import tiny
from toolkit.acceptance.rejection import Rejection
from toolkit.acceptance.topk import TopK
from toolkit.engine.loop import SpecDecoder
from toolkit.engine.runner import Runner
from toolkit.engine.types import (
    AcceptanceRule,
    Batch,
    Draft,
    LengthPolicy,
    Request,
    Sampling,
    TargetView,
    Verdict,
)
from toolkit.engine.vocabulary import Vocabulary
from toolkit.lengths.entropy import Entropy
from toolkit.lengths.fixed import Fixed
from toolkit.proposers.eagle3 import Eagle3Head

TOLERANCE = 1e-4  # float32
FAMILIES = ["llama", "qwen3"]
AUX = (0, 1, 2)  # the embeddings, what enters the second layer, and what leaves the final norm
PROMPTS = ragged(10, longest=8, vocab=256)
SAMPLING = Sampling(temperature=1.0, max_new_tokens=13, seed=3)


def made(family: str) -> tuple[Runner, Drafting]:
    """A tiny target as a Runner, and a random head beside an equal plain one."""
    name = f"tiny-random:{family}"
    plain = tiny.build(name)[0]
    tokens = torch.arange(0, 259, 2)  # every second one, EOS among them
    head = random_head(plain, AUX, len(tokens), seed=5, sharp=1.0)
    return Runner(*tiny.build(name)), Drafting(head, Vocabulary(tokens, 259), plain)


class HeadSpy(Eagle3Head):
    """Compares every view that it shows the length policy with the teacher-forced pass over the row's text."""

    def __init__(self, target: Runner, drafting: Drafting) -> None:
        super().__init__(target, drafting.head, drafting.vocabulary)
        self.reference, self.worst = drafting, Worst()

    def propose(self, batch: Batch, length: LengthPolicy) -> Draft:
        watched = Watched(length)
        draft = super().propose(batch, watched)
        for b in range(len(batch)):
            text, proposed = batch.text[b, : batch.lengths[b]].tolist(), int(draft.valid[b].sum())
            assert proposed == 0 or len(text) > 1
            for view in watched.views[: proposed + 1]:
                self._compare(view.logits[b], view.hidden[b], text, draft.tokens[b, : view.depth].tolist())
        return draft

    def _compare(self, logits: torch.Tensor, hidden: torch.Tensor, text: Sequence[int], drafted: Sequence[int]) -> None:
        if len(text) == 1:  # nothing is drafted for it
            return
        fused = self.reference.fused(torch.tensor([text]))
        wanted, state = self.reference.step(fused, torch.tensor([[*text, *drafted]]))
        self.worst.logits = max(self.worst.logits, float((logits - wanted[0]).abs().max()))
        self.worst.hidden = max(self.worst.hidden, float((hidden - state[0]).abs().max()))
        self.worst.compared += 1


def spied(
    family: str, length: LengthPolicy, accept: AcceptanceRule, spy: type[HeadSpy] = HeadSpy
) -> tuple[Worst, list[int]]:
    """Decode -> the largest differences, and how many candidates each round accepted."""
    target, drafting = made(family)
    proposer = spy(target, drafting)
    decoder = SpecDecoder(target, proposer, length, accept)
    done = decoder.generate([Request(i, prompt) for i, prompt in enumerate(PROMPTS)], SAMPLING)
    done += decoder.generate([Request(0, PROMPTS[0])], SAMPLING)  # a prompt of one token, alone
    return proposer.worst, [accepted for generation in done for _, accepted in generation.windows]


@pytest.mark.parametrize("accept", [Rejection(), TopK(200)], ids=["rejection", "topk"])
@pytest.mark.parametrize("window", [1, 3, 5])
@pytest.mark.parametrize("family", FAMILIES)
def test_drafted_logits_equal_a_teacher_forced_pass(family: str, window: int, accept: AcceptanceRule) -> None:
    """The rule that accepts much makes rows advance by different numbers of positions."""
    worst, accepted = spied(family, Fixed(window), accept)
    assert worst.compared > 60
    assert worst.logits < TOLERANCE
    assert worst.hidden < TOLERANCE
    assert 0 in accepted
    assert isinstance(accept, Rejection) or len(set(accepted)) == window + 1


@pytest.mark.parametrize("family", FAMILIES)
def test_windows_that_a_policy_ends_too(family: str) -> None:
    worst, _ = spied(family, Entropy(4.0, 5), TopK(200))
    assert worst.compared > 50
    assert worst.logits < TOLERANCE


class FeaturesAhead(HeadSpy):
    """Position i is shown the target's states of token i+1, as if the pending token's were there."""

    def commit(self, batch: Batch, draft: Draft, verdict: Verdict, target: TargetView) -> None:
        super().commit(batch, draft, verdict, target)
        self.unread = {layer: states.roll(-1, dims=1) for layer, states in self.unread.items()}


class TokensBehind(HeadSpy):
    """Position i reads the embedding of token i, not of the next."""

    def _forward(self, tokens: Tensor, hidden: Tensor, start: np.ndarray) -> Tensor:
        if tokens.shape[1] > 1:
            tokens = tokens.roll(1, dims=1)
        return super()._forward(tokens, hidden, start)


class PositionsAhead(HeadSpy):
    """Drafted positions are one too high: RoPE sees differences only, so a shift of all of them would be no bug."""

    def _forward(self, tokens: Tensor, hidden: Tensor, start: np.ndarray) -> Tensor:
        self.cache.begin(start, tokens.shape[1])
        ahead = self.cache.positions + int(tokens.shape[1] == 1)
        return self.head(self._embed(tokens), hidden, ahead, self._attend)


@pytest.mark.parametrize("bug", [FeaturesAhead, TokensBehind, PositionsAhead], ids=lambda bug: bug.__name__)
def test_a_misaligned_head_is_caught(bug: type[HeadSpy]) -> None:
    worst, _ = spied("llama", Fixed(3), Rejection(), bug)
    assert worst.logits > 1000 * TOLERANCE


def test_a_prompt_of_one_token_drafts_from_its_second_round_on() -> None:
    target, drafting = made("llama")
    decoder = SpecDecoder(target, Eagle3Head(target, drafting.head, drafting.vocabulary), Fixed(3), Rejection())
    requests = [Request(0, (65,)), Request(1, (65, 66))]
    for generation in (*decoder.generate(requests, SAMPLING), *decoder.generate(requests[:1], SAMPLING)):
        proposed = [count for count, _ in generation.windows]
        assert proposed[0] == (0 if generation.prompt_tokens == 1 else 3)
        assert proposed[1] == 3


def test_candidates_are_of_the_vocabulary() -> None:
    """In target ids, with q = 0 outside of it and a mass of 1 inside."""
    target, drafting = made("llama")
    seen: list[Draft] = []

    class Kept(Eagle3Head):
        def propose(self, batch: Batch, length: LengthPolicy) -> Draft:
            seen.append(super().propose(batch, length))
            return seen[-1]

    proposer = Kept(target, drafting.head, drafting.vocabulary)
    SpecDecoder(target, proposer, Fixed(3), Rejection()).generate([Request(0, (65, 66, 67))], SAMPLING)
    laws = torch.cat([draft.logq.flatten(0, 1) for draft in seen if draft.logq is not None]).exp()
    tokens = torch.cat([draft.tokens.flatten() for draft in seen])
    assert len(tokens) > 5
    assert set(tokens.tolist()) <= set(drafting.vocabulary.ids.tolist())
    assert torch.allclose(laws.sum(-1), torch.ones(len(laws)), atol=1e-5)
    assert (laws[:, 1::2] == 0).all()
    assert (laws[:, ::2] > 0).any(0).all()


def test_a_narrower_target_narrows_the_head() -> None:
    """A draft that is loaded later cuts the target: nothing above may be drafted any more."""
    target, drafting = made("llama")
    proposer = Eagle3Head(target, drafting.head, drafting.vocabulary)
    target.narrow(100)
    decoder = SpecDecoder(target, proposer, Fixed(3), Rejection())
    [generation] = decoder.generate([Request(0, (65, 66, 67))], SAMPLING)
    assert len(proposer.vocabulary) == 50
    assert max(generation.tokens) < 100
