"""Consensus AutoJudge against its text, token by token; who is called when; and that no cache reads a token twice."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.decode import consensus, greedy
from tests.decode.caches import ragged
from tests.decode.consensus import Trio
from tests.decode.models import EOS, SLIDING, TARGETS, VOCAB, Family, draft_recipe, model
from toolkit.acceptance.gated import Gated
from toolkit.acceptance.rejection import Rejection
from toolkit.engine.loop import SpecDecoder
from toolkit.engine.types import AcceptanceRule, Generation, Request, Sampling
from toolkit.errors import UserError
from toolkit.lengths.fixed import Fixed
from toolkit.nets.gate import D1, D2, FEATURES, TARGET, Gate, GateSettings, LearnedGate, RuleGate
from toolkit.proposers.consensus import Consensus, Follower
from toolkit.proposers.draft_model import DraftModel
from toolkit.proposers.ngram import NGram

LIMIT = 14
PROMPTS = ragged(16, longest=9, vocab=VOCAB)
REQUESTS = [Request(i, prompt) for i, prompt in enumerate(PROMPTS)]
SAMPLING = Sampling(max_new_tokens=LIMIT)
THRESHOLD = 0.4
TOP, BLOCK = 3, 5  # of the learned gates, so that ranks are cut and positions begin again
GATES = ("rule", "ensemble", "d1_only")
DRAFTS = ("far", "trimmed")


def gate_of(name: str) -> Gate:
    """The rule, or random weights: decisions that depend on every feature."""
    if name == "rule":
        return RuleGate()
    gate = LearnedGate(GateSettings(name, THRESHOLD, TOP, BLOCK))
    random = np.random.default_rng(5)
    gate.weight.copy_(torch.from_numpy(random.normal(size=(3, len(FEATURES[name])))))
    gate.mean.fill_(0.4)
    gate.scale.fill_(2.0)
    return gate


def trio(family: Family, draft: str = "far") -> Trio:
    return Trio(TARGETS[family], draft_recipe(family, draft), draft_recipe(family, "near"))


def proposer(one: Trio, gate: Gate, most: int = 64, *, escalation: bool = True) -> Consensus:
    d1, d2 = (Follower(model(recipe).runner) for recipe in (one.d1, one.d2))
    needed = escalation or gate.features == "ensemble"
    return Consensus(d1, d2 if needed else None, gate, escalation, most)


def decoder(one: Trio, proposed: Consensus, accept: AcceptanceRule | None = None, length: int = 64, **options: object):
    return SpecDecoder(model(one.target).runner, proposed, Fixed(length), accept or Gated(), **options)


def reference(one: Trio, name: str, prompt: tuple[int, ...], limit: int = LIMIT, **options) -> consensus.Reference:
    alone = {"alone": name == "d1_only"}
    if name == "rule":
        return consensus.decode(one, prompt, limit, consensus.rule, **options)
    choose = consensus.learned(gate_of(name), THRESHOLD)
    return consensus.decode(one, prompt, limit, choose, top=TOP, block=BLOCK, **alone, **options)


def essence(generation: Generation) -> tuple[object, ...]:
    return (
        generation.id,
        generation.tokens,
        generation.windows,
        generation.rounds,
        generation.counters,
        generation.finish,
    )


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


def test_a_temperature_is_refused() -> None:
    one = trio("llama")
    with pytest.raises(UserError, match=r"proposer consensus: sampling.temperature is 0.7.*Set temperature 0"):
        decoder(one, proposer(one, RuleGate())).generate(REQUESTS[:1], Sampling(0.7, max_new_tokens=LIMIT))


@pytest.mark.parametrize("other", [NGram(1, 3), DraftModel(model(draft_recipe("llama", "far")).runner)])
def test_gated_takes_nobody_else_s_tokens(other: object) -> None:
    made = SpecDecoder(model(TARGETS["llama"]).runner, other, Fixed(4), Gated())
    with pytest.raises(UserError, match="acceptance gated: .* proposer 'consensus'"):
        made.generate(REQUESTS[:1], SAMPLING)
