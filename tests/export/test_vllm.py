"""The tracked adapter, merged, in vLLM writes what our loop writes, with and without drafts. `make test-vllm`."""

import pytest

from tests.export.engines import BASE, CHECKPOINTS, acceptance_length, check, check_counters, decode, missing
from toolkit.backends import vllm
from toolkit.engine.types import Sampling
from toolkit.export.merge import merged_directory
from toolkit.hub import ModelConfig, Models
from toolkit.tasks import steps

PROBLEMS = steps.build(steps.Config(split="test", style="cod", limit=6))
SAMPLING = Sampling(max_new_tokens=40)
NGRAM = {"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 4, "prompt_lookup_min": 2}


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
    return decode(Models(model), PROBLEMS, SAMPLING)


def test_the_adapter_changes_the_text(ours):
    _, without = decode(Models(BASE), PROBLEMS, SAMPLING)
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


def test_a_trained_draft_loads_and_changes_nothing(merged, model, ours, record_property, tmp_path):
    prompts, generations = ours
    directory = CHECKPOINTS / "smollm2-cod-draft"
    if not directory.is_dir():
        pytest.skip(f"checkpoints/{directory.name} is not there: `make artifacts` trains it")
    trained = ModelConfig(str(directory), dtype="float32", device="cpu")
    with merged_directory(trained, tmp_path, target=model) as draft:
        speculative = {"method": "draft_model", "model": str(draft), "num_speculative_tokens": 3}
        result = vllm.generate(merged, prompts, SAMPLING, speculative=speculative)
    check(result, generations, record_property)
    check_counters(result.counters, 3)
    length = acceptance_length(result.counters)
    print(f"vLLM's acceptance length with the trained draft: {length:.2f}")
    assert length > 2, "a trained draft has more than one token a round accepted"
