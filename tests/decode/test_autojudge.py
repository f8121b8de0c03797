"""AutoJudge: its ends are plain speculative decoding and accept-all; between them, brute force and the stated law."""

import math

import numpy as np
import pytest
import torch

from tests.decode import checks, exact, judging, rounds
from tests.decode.caches import ragged
from tests.decode.compose import Case
from tests.decode.draws import draw
from tests.decode.models import ALIVE, EOS, TARGETS, VOCAB, Family, model
from tests.decode.stats import DRAWS, judge
from tests.decode.test_identity import strangers
from toolkit.acceptance.rejection import Rejection
from toolkit.acceptance.topk import TopK
from toolkit.engine.loop import SpecDecoder
from toolkit.engine.sampling import warp
from toolkit.engine.types import AcceptanceRule, Batch, Draft, Generation, Request, Sampling, TargetView
from toolkit.errors import UserError
from toolkit.proposers.draft_model import DraftModel
from toolkit.proposers.ngram import NGram

LIMIT = 14
GREEDY = Sampling(max_new_tokens=LIMIT)
PROMPTS = ragged(24, longest=9, vocab=VOCAB)
REQUESTS = [Request(i, prompt) for i, prompt in enumerate(PROMPTS)]
FEATURES = [("target",), ("draft",), ("target", "draft"), ("distribution",), ("target", "draft", "distribution")]
ENDS = {"nothing": (-math.inf, Rejection()), "everything": (math.inf, TopK(None))}


def decoded(case: Case, accept: AcceptanceRule, sampling: Sampling) -> list[Generation]:
    return case.decoder(accept).generate(REQUESTS, sampling)


def essence(done: list[Generation]) -> list[tuple[object, ...]]:
    return [(one.tokens, one.windows, one.finish) for one in done]


@pytest.mark.parametrize("warped", ["greedy", "t1", "top-p0.8"])
@pytest.mark.parametrize(("proposer", "kind"), [("draft_model", "far"), ("ngram", None), ("eagle3", None)])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("family", TARGETS)
def test_the_ends(family: Family, proposer: str, kind: str | None, end: str, warped: str) -> None:
    """Threshold 0 rescues nothing, threshold 1 everything: token for token, window for window, from the same seeds."""
    limit, plain = ENDS[end]
    case = Case(family, proposer, kind, warp="t1" if warped == "greedy" else warped)
    sampling = GREEDY if warped == "greedy" else case.sampling
    accept = judging.rule(case.target, limit=limit)
    assert accept.lossless(sampling) == (end == "nothing")
    assert not accept.wants.target_layers, "nothing is judged, so nothing need be shown"
    found, wanted = decoded(case, accept, sampling), decoded(case, plain, sampling)
    assert essence(found) == essence(wanted)
    total, kept = (sum(one.counters[f"judge_{name}"] for one in found) for name in ("total", "accepted"))
    assert total > 0 and kept == (total if end == "everything" else 0)
    assert all(one.counters == {} for one in wanted)


@pytest.mark.parametrize("end", ENDS)
def test_a_threshold_beyond_all_logits_is_an_end(end: str) -> None:
    """Compared as logits: where a float32 sigmoid is 0 or 1 already, one token differs from another."""
    limit = math.copysign(1e6, ENDS[end][0])
    case = Case("llama", kind="far")
    accept = judging.rule(case.target, limit=limit)
    assert not accept.lossless(GREEDY) and accept.wants.target_layers
    assert essence(decoded(case, accept, GREEDY)) == essence(decoded(case, ENDS[end][1], GREEDY))


@pytest.mark.parametrize("features", FEATURES, ids="+".join)
@pytest.mark.parametrize("kind", ["far", "near"])
@pytest.mark.parametrize("family", TARGETS)
def test_greedy_by_brute_force(family: Family, kind: str, features: tuple[str, ...]) -> None:
    """The same tokens, windows and counters; where it reads the draft, a window's last is lost."""
    case = Case(family, kind=kind)
    accept = judging.rule(case.target, case.draft, features=features)
    total = dict.fromkeys(("judge_total", "judge_accepted", "judge_rejected"), 0)
    for prompt, found in zip(PROMPTS, decoded(case, accept, GREEDY), strict=True):
        wanted, counts = judging.speculative(case.target, case.draft, accept.judge, 0.0, prompt, LIMIT, case.window)
        assert (found.tokens, found.windows) == (wanted.tokens, wanted.windows)
        assert found.counters == counts
        total = {name: total[name] + count for name, count in counts.items()}
    assert total["judge_accepted"] > 0 and total["judge_rejected"] > 0


LAWS = [
    (Case("llama", kind="far", window=2), ("target",)),
    (Case("qwen3", kind="far", window=3, warp="t0.7"), ("target",)),
    (Case("gpt2", kind="near", window=2), ("target",)),
    (Case("llama", kind="far", window=3), ("draft",)),
    (Case("qwen3", kind="far", window=2, warp="top-p0.8"), ("distribution",)),
    (Case("gpt2", kind="near", window=2, warp="t0.7"), ("target", "draft", "distribution")),
]


@pytest.mark.parametrize(("case", "features"), LAWS, ids=lambda value: getattr(value, "name", None) or "+".join(value))
def test_the_law(case: Case, features: tuple[str, ...]) -> None:
    """Above temperature 0: the coin first, then the judge; the joint law by enumeration of every context."""
    accept = judging.rule(case.target, case.draft, features=features)
    depth = case.window + 2
    draws = draw(case.decoder(accept), case.sampling, DRAWS)
    steps = []
    for d in draws:
        p, q = (exact.law(recipe, d.prompt, case.sampling, depth) for recipe in (case.target, case.draft))
        spared = [_spared(case, accept.judge, d.prompt, level) for level in range(depth + 1)]
        assert 0.05 < np.mean(spared[-1]) < 0.95
        last = case.window - 1 if "draft" in features else None
        steps.append(rounds.emitted(p, q, case.window, _rescued(spared, last)))
    for which, p in checks.joints(draws, steps, case.window).items():
        judge(f"autojudge {'+'.join(features)} {case.name} {which}", p)


def _spared(case: Case, made: judging.Judge, prompt: exact.Prompt, depth: int) -> np.ndarray:
    """[A^depth, V] bool: is the next token unimportant, in each context?"""
    contexts = np.repeat(exact.continued(prompt, depth), VOCAB, axis=0)
    texts = np.concatenate([contexts, np.tile(np.arange(VOCAB), ALIVE**depth)[:, None]], axis=1)
    laws = judging.distribution(*(exact.raw(recipe, prompt, depth) for recipe in (case.target, case.draft)))
    parts = {name: judging.states(recipe, texts) for name, recipe in (("target", case.target), ("draft", case.draft))}
    parts["distribution"] = laws.reshape(len(texts), -1)
    return judging.unimportant(made, 0.0, parts).reshape(-1, VOCAB)


def _rescued(spared: list[np.ndarray], last: int | None) -> rounds.Rule:
    """last: the place where nothing is rescued, nor anywhere an EOS, as it ends its window; None: all are judged."""
    by_contexts = {len(level): level for level in spared}

    def split(p: np.ndarray, q: np.ndarray, place: int) -> rounds.Split:
        saved = by_contexts[len(p)]
        if last is not None:
            saved = saved & (place != last) & (np.arange(VOCAB) != EOS)
        accepted = np.where(saved, q, np.minimum(q, p))
        return accepted, (1.0 - accepted.sum(-1, keepdims=True)) * rounds.residual(p, q)

    return split


BATCHED = [
    (Case("llama", kind="far"), ("target",)),
    (Case("qwen3", kind="near", length="entropy"), ("target", "draft")),  # ragged: each row has a last token of its own
    (Case("gpt2", kind="far", warp="top-p0.8"), ("distribution",)),
]


@pytest.mark.parametrize(("case", "features"), BATCHED, ids=lambda value: getattr(value, "name", None))
def test_batch_mates_do_not_matter(case: Case, features: tuple[str, ...]) -> None:
    accept = judging.rule(case.target, case.draft, features=features)
    decoder = case.decoder(accept)
    assert strangers(decoder, case.sampling) == 0
    assert strangers(decoder, Sampling(max_new_tokens=12)) == 0


def test_divergence_has_the_right_expectation() -> None:
    """A place, its two laws, and every token in turn as the one that was drawn, each with a state of its own."""
    made, sampling = judging.judge(TARGETS["llama"], None, ("target",)), Sampling(0.7)
    accept = judging.rule(TARGETS["llama"])
    generator = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(1, 2, 11, generator=generator).expand(11, -1, -1)
    logq = warp(2 * torch.randn(1, 1, 11, generator=generator), sampling).expand(11, -1, -1)
    state = torch.randn(11, 2, 16, generator=generator)
    batch = Batch(torch.arange(11), None, torch.zeros(11, 1), None, None, None, sampling, None)
    valid = torch.ones(11, 1, dtype=torch.bool)
    draft = Draft(torch.arange(11)[:, None], valid, torch.zeros(11, dtype=torch.bool), logq)
    found = accept.divergence(batch, draft, TargetView(logits, {1: state}))[:, 0].double()
    p, q = warp(logits[0, 0], sampling).exp().double(), logq[0, 0].exp().double()
    spared = torch.from_numpy(judging.unimportant(made, 0.0, {"target": state[:, 1].double().numpy()}))
    kept = torch.where(spared, q, torch.minimum(q, p))
    rest = (p - q).clamp(min=0)
    out = kept + (1 - kept.sum()) * rest / rest.sum()
    assert spared.any() and not spared.all() and found.max() > 0.05
    assert float((q * found).sum()) == pytest.approx(float(0.5 * (out - p).abs().sum()), abs=1e-5)
    batch.sampling = Sampling()
    p1 = logits[0, 0].softmax(-1)
    found = accept.divergence(batch, draft, TargetView(logits, {1: state}))[:, 0]
    assert torch.allclose(found, torch.where(spared, 1 - p1 / p1.max(), 0.0), atol=1e-5)


def test_a_judge_that_reads_the_draft_is_of_that_draft() -> None:
    case = Case("llama", kind="far")
    accept = judging.rule(case.target, case.draft, features=("draft",))
    accept.made_for = "a" * 64
    target = model(case.target).runner
    draft = DraftModel(model(case.draft).runner, "b" * 64)
    for proposer in (draft, NGram(1, 3)):
        with pytest.raises(UserError, match="acceptance rule 'autojudge' was trained with another draft"):
            SpecDecoder(target, proposer, case.length_policy(), accept)
    draft.weights = accept.made_for
    SpecDecoder(target, draft, case.length_policy(), accept)
