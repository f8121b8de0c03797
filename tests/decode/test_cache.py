"""After any ragged accepts and rejections, the next token's logits are those of a fresh prefill: target and draft."""

from dataclasses import replace

import pytest

from tests.decode.caches import DraftSpy, TargetSpy, Worst, ragged
from tests.decode.compose import Case
from tests.decode.models import VOCAB, Recipe, build
from toolkit.engine.loop import SpecDecoder
from toolkit.engine.runner import Runner
from toolkit.engine.types import LengthPolicy, Request, Sampling
from toolkit.lengths.entropy import Entropy
from toolkit.lengths.fixed import Fixed
from toolkit.proposers.draft_model import DraftModel
from toolkit.proposers.ngram import NGram

TOLERANCE = 1e-4  # float32
SAMPLING = Sampling(temperature=1.0, max_new_tokens=14, seed=7)
PROMPTS = ragged(40, longest=9, vocab=VOCAB)
ALONE = 6  # requests that are decoded again, one at a time: then a stopped window means that nothing was drafted
WINDOW = 4

MODELS: dict[str, tuple[Recipe, dict[str, object]]] = {
    "llama": (Recipe("llama", seed=47, layers=2), {}),
    "qwen2": (Recipe("qwen2", seed=3, layers=2), {}),
    "qwen3": (Recipe("qwen3", seed=137, layers=2), {}),
    "gpt2": (Recipe("gpt2", seed=3, layers=2), {}),
    "mistral": (Recipe("mistral", seed=3, layers=2), {"sliding_window": 4}),
    "gemma2": (
        Recipe("gemma2", seed=3, layers=2),
        {"sliding_window": 4, "query_pre_attn_scalar": 8, "attn_logit_softcapping": 2.0},
    ),
}
LENGTHS = {"fixed": Fixed(WINDOW), "entropy": Entropy(1.3, WINDOW)}


def spied(name: str, length: LengthPolicy, runner: type[Runner] = Runner) -> tuple[Worst, Worst]:
    """Decode by draft model -> what the spies on target and draft saw."""
    recipe, options = MODELS[name]
    near = replace(recipe, noise=0.1, noise_seed=1)
    target, draft = build(recipe, **options), build(near, **options)
    accept = TargetSpy(build(recipe, **options))
    proposer = DraftSpy(DraftModel(runner(draft)), build(near, **options))
    decoder = SpecDecoder(runner(target), proposer, length, accept)
    decoder.generate(requests(), SAMPLING)
    for request in requests()[:ALONE]:
        decoder.generate([request], SAMPLING)
    return accept.worst, proposer.worst


def requests() -> list[Request]:
    return [Request(i, prompt) for i, prompt in enumerate(PROMPTS)]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("name", MODELS)
def test_logits_equal_a_fresh_prefill(name: str, length: str) -> None:
    target, draft = spied(name, LENGTHS[length])
    assert {0, 1, WINDOW} <= {accepted for _, accepted in target.windows}, "the run met too few ways to end a window"
    assert len({proposed for proposed, _ in target.windows}) == WINDOW + 1, "no ragged windows"
    for worst in (target, draft):
        assert worst.compared > 200
        assert worst.logits < TOLERANCE
        assert worst.hidden < TOLERANCE


@pytest.mark.parametrize("proposer", ["draft_model", "eagle3"])
def test_a_batch_that_has_ended_leaves_nothing(proposer: str) -> None:
    """A decoder waits for its next batch, and many may wait at a time: none holds its caches meanwhile."""
    case = Case("llama", proposer, "near" if proposer == "draft_model" else None)
    decoder = case.decoder()
    for _ in range(2):
        texts = [generation.tokens for generation in decoder.generate(requests(), case.sampling)]
        assert texts == [generation.tokens for generation in case.decoder().generate(requests(), case.sampling)]
        assert not decoder.proposer.cache._keys and not decoder.proposer.cache._values


def test_prompt_lookup_too() -> None:
    """A batch where some rows propose four tokens and others none."""
    recipe, _ = MODELS["llama"]
    accept = TargetSpy(build(recipe))
    SpecDecoder(Runner(build(recipe)), NGram(1, 3), Fixed(WINDOW), accept).generate(requests(), SAMPLING)
    assert {(0, 0), (WINDOW, WINDOW), (WINDOW, 0)} <= set(accept.worst.windows)
    assert accept.worst.logits < TOLERANCE
    assert accept.worst.hidden < TOLERANCE
