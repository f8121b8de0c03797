"""The tracked adapter, merged, in vLLM writes what our loop writes, with and without drafts. `make test-vllm`.

Greedy and float32. The two engines add in different orders, so a token may differ where our loop's two best logits were
nearly a tie; such prompts are counted, and any other difference fails.
"""

from pathlib import Path

import pytest
import torch

from toolkit import chat, methods
from toolkit.backends import vllm
from toolkit.engine.types import Request, Sampling
from toolkit.errors import UserError
from toolkit.evaluation.equality import first_difference, near_tie
from toolkit.export.merge import merged_directory
from toolkit.hub import ModelConfig, Models
from toolkit.tasks import steps

BASE = ModelConfig("smollm2-135m", dtype="float32", device="cpu")
CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"
PROBLEMS = steps.build(steps.Config(split="test", style="cod", limit=6))
SAMPLING = Sampling(max_new_tokens=40)
NGRAM = {"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 4, "prompt_lookup_min": 2}


def missing():
    try:
        vllm.python_path()
    except UserError as error:
        return str(error)
    return ""


pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(1800),  # on a busy machine each start of vLLM takes minutes
    pytest.mark.skipif(bool(missing()), reason=missing()),
]


@pytest.fixture(scope="module")
def model():
    return ModelConfig(BASE.name, dtype="float32", device="cpu", adapters=[str(CHECKPOINTS / "smollm2-cod")])


@pytest.fixture(scope="module")
def merged(model, tmp_path_factory):
    with merged_directory(model, tmp_path_factory.mktemp("home")) as directory:
        yield directory


@pytest.fixture(scope="module")
def ours(model):
    return decode(Models(model))


def decode(models):
    """-> token ids of the prompts, and what plain autoregression makes of them."""
    prompts = [chat.encode(PROBLEMS.messages(one), models.target.tokenizer) for one in PROBLEMS.problems()]
    decoder = methods.decoder(methods.resolve("baseline", "test"), models, record_gaps=True)
    return prompts, decoder.generate([Request(i, tokens) for i, tokens in enumerate(prompts)], SAMPLING)


def check(result, ours, record_property):
    """The same tokens, near-ties apart; at least half of the prompts to the last token."""
    ties = 0
    for tokens, generation in zip(result.tokens, ours, strict=True):
        at = first_difference(tokens, generation.tokens)
        if at is not None:
            assert at < min(len(tokens), len(generation.tokens)), (generation.id, "one ended before the other")
            assert generation.gaps[at] < near_tie(torch.float32), (generation.id, at, generation.gaps[at])
            ties += 1
    print(f"{len(ours)} prompts, {ties} parted at a near-tie")
    record_property("near_ties", ties)
    assert ties <= len(ours) // 2


def test_the_adapter_changes_the_text(ours):
    _, without = decode(Models(BASE))
    assert [g.tokens for g in ours[1]] != [g.tokens for g in without]


def test_greedy_tokens(merged, ours, record_property):
    prompts, generations = ours
    result = vllm.generate(merged, prompts, SAMPLING)
    check(result, generations, record_property)
    assert result.counters == {}


def test_ngram_drafts_change_nothing(merged, ours, record_property):
    prompts, generations = ours
    result = vllm.generate(merged, prompts, SAMPLING, speculative=NGRAM)
    check(result, generations, record_property)
    check_counters(result.counters, 4)
    assert result.counters["vllm:spec_decode_num_accepted_tokens"] > 0, "the answers repeat numbers of the questions"


def test_the_tracked_draft_loads_and_changes_nothing(merged, model, ours, record_property, tmp_path):
    prompts, generations = ours
    trained = ModelConfig(str(CHECKPOINTS / "smollm2-cod-draft"), dtype="float32", device="cpu")
    with merged_directory(trained, tmp_path, target=model) as draft:
        speculative = {"method": "draft_model", "model": str(draft), "num_speculative_tokens": 3}
        result = vllm.generate(merged, prompts, SAMPLING, speculative=speculative)
    check(result, generations, record_property)
    check_counters(result.counters, 3)
    drafts, accepted = (result.counters[f"vllm:spec_decode_num_{name}"] for name in ("drafts", "accepted_tokens"))
    print(f"vLLM's acceptance length with the tracked draft: {1 + accepted / drafts:.2f}")
    assert accepted > drafts, "a trained draft has more than one token a round accepted"


def check_counters(counters, drafted):
    """Named and shaped as vLLM's documentation has them, and consistent with one another."""
    values = {name.removeprefix("vllm:spec_decode_num_"): value for name, value in counters.items()}
    assert values.keys() == {"drafts", "draft_tokens", "accepted_tokens", "accepted_tokens_per_pos"}
    by_position = values["accepted_tokens_per_pos"]
    assert len(by_position) == drafted
    assert by_position == sorted(by_position, reverse=True), "position i is accepted only after i - 1"
    assert sum(by_position) == values["accepted_tokens"]
    assert 0 < values["drafts"] <= values["draft_tokens"] <= drafted * values["drafts"]
    assert by_position[0] <= values["drafts"]
