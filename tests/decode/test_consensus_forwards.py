"""Consensus AutoJudge: who is called when, and that no cache reads a token twice."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.decode import consensus
from tests.decode.consensus import Trio
from tests.decode.gates import (
    GATES,
    PROMPTS,
    REQUESTS,
    SAMPLING,
    decoder,
    gate_of,
    proposer,
    reference,
    trio,
)
from tests.decode.models import SLIDING, model
from toolkit.engine.types import Request, Sampling
from toolkit.nets.gate import D1, D2, FEATURES, TARGET


class Forwards:
    """Tokens that each forward of a runner reads, prefill aside."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, runner: object) -> None:
        self.widths: list[int] = []
        self.ragged = 0
        plain = runner.forward

        def forward(cache, tokens, start, *, logits="all", hidden=frozenset()):
            if logits != "none":
                self.widths.append(tokens.shape[1])
                self.ragged += logits == "all"
            return plain(cache, tokens, start, logits=logits, hidden=hidden)

        monkeypatch.setattr(runner, "forward", forward)


@pytest.mark.parametrize("most", [1, 3, 64])
@pytest.mark.parametrize("name", GATES)
def test_every_model_reads_every_token_once(name: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the target is called by nobody but the gate, for all tokens since its last call."""
    one = trio("llama")
    for request in REQUESTS[:8]:
        wanted = reference(one, name, request.prompt, most=most)
        with monkeypatch.context() as patch:
            target, d1, d2 = (Forwards(patch, model(recipe).runner) for recipe in (one.target, one.d1, one.d2))
            [generation] = decoder(one, proposer(one, gate_of(name), most)).generate([request], SAMPLING)
        assert generation.tokens == wanted.tokens
        began = len(request.prompt) - 1  # tokens that prefill has read
        assert target.widths == np.diff([began, *wanted.calls]).tolist()
        steps = len(wanted.tokens)  # at each of them D1 is asked about the next one
        assert d1.widths == [1] * steps
        assert [generation.counters[f"gate_{name}_calls"] for name in ("d1", "d2")] == [steps, len(d2.widths)]
        if name == "d1_only":  # D2 only where it is escalated to
            at = [began + 1 + place for place, choice in enumerate(wanted.source) if choice == D2]
            assert d2.widths == np.diff([began, *at]).tolist()
        else:
            assert d2.widths == [1] * steps


def test_a_gate_that_never_escalates_has_one_draft(monkeypatch: pytest.MonkeyPatch) -> None:
    one = trio("llama")
    made = proposer(one, gate_of("d1_only"), escalation=False)
    assert made.d2 is None
    d2 = Forwards(monkeypatch, model(one.d2).runner)
    decoder(one, made).generate(REQUESTS, SAMPLING)
    assert d2.widths == []


@pytest.mark.parametrize("most", [3, 64])
@pytest.mark.parametrize("name", [name for name in GATES if name != "rule"])  # which calls the target every few tokens
def test_sliding_windows(name: str, most: int) -> None:
    """The target, and a D2 that is seldom asked, then read more tokens at a time than their layers look back on."""
    one = Trio(SLIDING, replace(SLIDING, noise=0.5, noise_seed=2), replace(SLIDING, noise=0.1, noise_seed=1))
    longest = 0
    for prompt, found in zip(
        PROMPTS, decoder(one, proposer(one, gate_of(name), most)).generate(REQUESTS, SAMPLING), strict=True
    ):
        wanted = reference(one, name, prompt, most=most)
        assert (found.tokens, found.windows, found.counters) == (wanted.tokens, wanted.windows, wanted.counters)
        longest = max([longest, *np.diff([len(prompt) - 1, *wanted.calls])])
    assert longest > SLIDING.sliding


class Scripted:
    """D1, and for every third token of its block D2; the target at the end of a block. Long texts between calls."""

    features, top, block = "d1_only", 8, 12

    def choose(self, seen: torch.Tensor) -> torch.Tensor:
        place = (seen[:, -1] * self.block).round().long()
        asked = (seen[:, 0] > 0.5) & (place == 0)  # p1(y1): some rows fall behind others
        rest = torch.where(place == 11, TARGET, torch.where(place == 9, D2, D1))
        return torch.where(asked, TARGET, rest)


def test_rows_that_lag_by_more_than_others_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """D2 has then to catch up with more tokens than some rows' whole texts."""
    one = trio("llama")
    gate = Scripted()

    def choose(at: consensus.Numbers) -> int:
        seen = torch.tensor([[at[column] for column in FEATURES["d1_only"]]])
        return int(gate.choose(seen))

    requests = [Request(i, (i % 4,)) for i in range(4)] + [Request(9, (1, 2, 3, 0, 1))]
    sampling = Sampling(max_new_tokens=40)
    d2 = Forwards(monkeypatch, model(one.d2).runner)
    found = decoder(one, proposer(one, gate, 4)).generate(requests, sampling)
    for request, generation in zip(requests, found, strict=True):
        wanted = consensus.decode(one, request.prompt, 40, choose, alone=True, most=4, block=gate.block)
        assert (generation.tokens, generation.windows) == (wanted.tokens, wanted.windows)
    assert max(d2.widths) > 4
