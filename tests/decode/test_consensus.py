"""Consensus AutoJudge against its text, token by token; and what a gate says of it."""

from collections import Counter

import pytest
import torch

from tests.decode import greedy
from tests.decode.gates import (
    DRAFTS,
    GATES,
    LIMIT,
    PROMPTS,
    REQUESTS,
    SAMPLING,
    decoder,
    essence,
    gate_of,
    proposer,
    reference,
    trio,
)
from tests.decode.models import EOS, TARGETS, Family, draft_recipe, model
from toolkit.acceptance.gated import Gated
from toolkit.acceptance.rejection import Rejection
from toolkit.engine.loop import SpecDecoder
from toolkit.engine.types import Sampling
from toolkit.errors import UserError
from toolkit.lengths.fixed import Fixed
from toolkit.nets.gate import D1, D2, FEATURES, TARGET, Gate, RuleGate
from toolkit.proposers.draft_model import DraftModel
from toolkit.proposers.ngram import NGram


@pytest.mark.parametrize("escalation", [True, False], ids=["", "alone"])
@pytest.mark.parametrize("draft", DRAFTS)
@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("family", TARGETS)
def test_token_by_token(family: Family, name: str, draft: str, escalation: bool) -> None:
    """A ragged batch: tokens, windows and counters of every row."""
    one = trio(family, draft)
    made = proposer(one, gate_of(name), escalation=escalation)
    for prompt, found in zip(PROMPTS, decoder(one, made).generate(REQUESTS, SAMPLING), strict=True):
        wanted = reference(one, name, prompt, escalation=escalation)
        assert (found.tokens, found.windows, found.counters) == (wanted.tokens, wanted.windows, wanted.counters)
        assert found.rounds == len(wanted.calls)
        assert not found.lossless


@pytest.mark.parametrize("name", GATES)
def test_these_gates_choose_all_three(name: str) -> None:
    """Else the tests here would pass for a proposer that knows one."""
    chosen = Counter(choice for prompt in PROMPTS for choice in reference(trio("llama"), name, prompt).source)
    assert min(chosen[choice] for choice in (D1, D2, TARGET)) >= 10
    single = reference(trio("llama"), name, PROMPTS[0], escalation=False).source
    assert D2 not in single


class Watching:
    """A gate that notes what it is shown."""

    def __init__(self, gate: Gate) -> None:
        self.gate, self.features, self.top, self.block = gate, gate.features, gate.top, gate.block
        self.seen: list[list[float]] = []

    def choose(self, seen: torch.Tensor) -> torch.Tensor:
        self.seen.append(seen[0].tolist())
        return self.gate.choose(seen)


@pytest.mark.parametrize("most", [2, 64])
@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("family", TARGETS)
def test_features_are_those_of_whole_texts(family: Family, name: str, most: int) -> None:
    """So the caches of both drafts are in step after every way to end a window."""
    one = trio(family, "trimmed")
    for request in REQUESTS[:6]:
        watching = Watching(gate_of(name))
        decoder(one, proposer(one, watching, most)).generate([request], SAMPLING)
        wanted = reference(one, name, request.prompt, most=most).seen
        columns = FEATURES[watching.features]
        assert len(watching.seen) == len(wanted)
        for found, numbers in zip(watching.seen, wanted, strict=True):
            assert found == pytest.approx([numbers[column] for column in columns], abs=2e-5)


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("family", TARGETS)
def test_batch_mates_do_not_matter(family: Family, name: str) -> None:
    one = trio(family)
    whole = {g.id: essence(g) for g in decoder(one, proposer(one, gate_of(name))).generate(REQUESTS, SAMPLING)}
    batches = [[request] for request in REQUESTS] + [REQUESTS[::-1], REQUESTS[3:6]]
    for batch in batches:
        for generation in decoder(one, proposer(one, gate_of(name))).generate(batch, SAMPLING):
            assert essence(generation) == whole[generation.id]


@pytest.mark.parametrize(("most", "length"), [(1, 64), (2, 64), (3, 64), (64, 2), (5, 4)])
@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("family", TARGETS)
def test_no_token_depends_on_the_longest_window(family: Family, name: str, most: int, length: int) -> None:
    """Windows do: one that is full asks nobody, and the target reads it with the next."""
    one = trio(family)
    unasked = 0
    for batch in (REQUESTS, REQUESTS[:1], REQUESTS[5:6]):
        found = decoder(one, proposer(one, gate_of(name), most), length=length).generate(batch, SAMPLING)
        for request, generation in zip(batch, found, strict=True):
            wanted = reference(one, name, request.prompt, most=min(most, length))
            assert (generation.tokens, generation.windows) == (wanted.tokens, wanted.windows)
            assert generation.counters == wanted.counters
            assert generation.rounds == len(wanted.calls) == wanted.counters["gate_fallback"]
            assert generation.tokens == reference(one, name, request.prompt).tokens
            unasked += len(wanted.windows) - wanted.counters["gate_fallback"]
    assert unasked > 0


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
@pytest.mark.parametrize("name", GATES)
def test_a_limit_cuts_the_output(name: str, limit: int) -> None:
    one = trio("qwen3")
    cut = decoder(one, proposer(one, gate_of(name))).generate(REQUESTS, Sampling(max_new_tokens=limit))
    for prompt, generation in zip(PROMPTS, cut, strict=True):
        whole = reference(one, name, prompt).tokens
        assert generation.tokens == whole[:limit]
        assert generation.finish == ("eos" if EOS in generation.tokens else "length")
        assert sum(accepted for _, accepted in generation.windows) + generation.counters["gate_fallback"] == len(
            generation.tokens
        )


@pytest.mark.parametrize("name", GATES)
def test_an_eos_of_a_draft_ends_the_text(name: str) -> None:
    """Nobody is asked behind it. No draft here ever names the EOS greedily, so another token stands in for it."""
    one, eos, ended = trio("qwen3"), 2, 0
    made = decoder(one, proposer(one, gate_of(name)))
    made._eos = frozenset({eos})
    for request, generation in zip(REQUESTS, made.generate(REQUESTS, SAMPLING), strict=True):
        wanted = reference(one, name, request.prompt)
        whole = wanted.tokens.index(eos) + 1 if eos in wanted.tokens else LIMIT
        assert generation.tokens == wanted.tokens[:whole]
        assert generation.counters["gate_fallback"] == wanted.source[:whole].count(TARGET)
        ended += generation.finish == "eos" and wanted.source[whole - 1] != TARGET
    assert ended > 0


LETTERS = {D1: "1", D2: "2", TARGET: "t"}


@pytest.mark.parametrize("most", [2, 64])
@pytest.mark.parametrize("name", GATES)
def test_tokens_say_whose_they_are(name: str, most: int) -> None:
    """As the text has it, and as the counters do: the target's own are those that it was asked for."""
    one = trio("qwen3")
    for request, found in zip(
        REQUESTS, decoder(one, proposer(one, gate_of(name), most)).generate(REQUESTS, SAMPLING), strict=True
    ):
        assert found.sources == "".join(LETTERS[choice] for choice in reference(one, name, request.prompt).source)
        counted = [found.counters[f"gate_{whose}"] for whose in ("d1", "d2", "fallback")]
        assert [found.sources.count(letter) for letter in "12t"] == counted


def test_sources_end_with_the_text() -> None:
    """The target's word behind a draft's EOS is in neither."""
    one = trio("qwen3")
    made = decoder(one, proposer(one, gate_of("ensemble")), Rejection(), length=4)
    made._eos = frozenset({2})
    found = made.generate(REQUESTS, SAMPLING)
    assert all(len(generation.sources) == len(generation.tokens) for generation in found)
    assert any(generation.finish == "eos" and generation.sources[-1] != "t" for generation in found)
    plain = SpecDecoder(model(one.target).runner, DraftModel(model(one.d1).runner), Fixed(4), Rejection())
    assert all(generation.sources == "" for generation in plain.generate(REQUESTS[:2], SAMPLING))


@pytest.mark.parametrize("most", [2, 64])
@pytest.mark.parametrize("name", GATES)
def test_divergence_is_of_every_drafted_token(name: str, most: int) -> None:
    """It is measured by looking at the target everywhere, which changes nothing else."""
    one = trio("llama")
    measured = decoder(one, proposer(one, gate_of(name), most), record_divergence=True).generate(REQUESTS, SAMPLING)
    plain = decoder(one, proposer(one, gate_of(name), most)).generate(REQUESTS, SAMPLING)
    assert [essence(g) for g in measured] == [essence(g) for g in plain]
    for request, generation in zip(REQUESTS, measured, strict=True):
        wanted = reference(one, name, request.prompt, most=most)
        assert generation.divergence == pytest.approx(wanted.lost, abs=1e-4)
    assert name == "rule" or sum(g.divergence for g in measured) > 0.5  # what the rule takes here is the target's own


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("family", TARGETS)
def test_under_rejection_it_drafts_losslessly(family: Family, name: str) -> None:
    one = trio(family)
    for generation in decoder(one, proposer(one, gate_of(name)), Rejection(), length=4).generate(REQUESTS, SAMPLING):
        assert generation.tokens == greedy.autoregressive(model(one.target).plain, PROMPTS[generation.id], LIMIT)
        assert generation.lossless and generation.rounds == len(generation.windows)


def test_thresholds_at_the_ends() -> None:
    """0: the target writes all. 1: it is never called."""
    one = trio("llama")
    gate = gate_of("ensemble")
    gate.use(0.0)
    for generation in decoder(one, proposer(one, gate)).generate(REQUESTS, SAMPLING):
        assert generation.tokens == greedy.autoregressive(model(one.target).plain, PROMPTS[generation.id], LIMIT)
        assert generation.counters["gate_fallback"] == len(generation.tokens)
    gate.use(1.0)
    for generation in decoder(one, proposer(one, gate)).generate(REQUESTS, SAMPLING):
        assert generation.counters["gate_fallback"] == generation.rounds == 0 and len(generation.windows) == 1


def test_a_temperature_is_refused_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    one = trio("llama")
    monkeypatch.setattr(model(one.target).runner, "forward", None)
    with pytest.raises(UserError, match=r"proposer consensus: sampling.temperature is 0.7.*Set temperature 0"):
        decoder(one, proposer(one, RuleGate())).generate(REQUESTS[:1], Sampling(0.7, max_new_tokens=LIMIT))


@pytest.mark.parametrize("other", [NGram(1, 3), DraftModel(model(draft_recipe("llama", "far")).runner)])
def test_gated_takes_nobody_else_s_tokens(other: object) -> None:
    with pytest.raises(UserError, match="acceptance gated: .* proposer 'consensus'"):
        SpecDecoder(model(TARGETS["llama"]).runner, other, Fixed(4), Gated())
