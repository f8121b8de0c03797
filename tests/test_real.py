"""On the real model: every lossless method writes what autoregression writes, on 32 GSM8K prompts, greedily.

`make test-real`; needs DRAFTSMITH_DATA_DIR with gsm8k_test, and SmolLM2-135M (`make setup` installs it).
"""

import os

import pytest

from toolkit import config, methods
from toolkit.engine.types import Generation, Request, Sampling
from toolkit.evaluation.equality import first_difference, near_tie
from toolkit.evaluation.prompts import prepare
from toolkit.hub import ModelConfig, Models

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif("DRAFTSMITH_DATA_DIR" not in os.environ, reason="needs DRAFTSMITH_DATA_DIR with gsm8k_test"),
]
PROMPTS, BATCH, SAMPLING = 32, 16, Sampling(max_new_tokens=64)
SELF_DRAFT = {  # full windows are accepted, which an untrained pruned draft hardly ever reaches
    "name": "self_draft",
    "proposer": {"type": "draft_model", "model": "target"},
    "length": {"type": "fixed", "k": 3},
}


@pytest.fixture(scope="module")
def models() -> Models:
    return Models(ModelConfig("smollm2-135m"))


@pytest.fixture(scope="module")
def requests(models: Models) -> list[Request]:
    module, options = config.piece("tasks", {"type": "gsm8k", "limit": PROMPTS}, "test")
    return [Request(p.request_id, p.tokens) for p in prepare(module.build(options), models.target.tokenizer, True)]


@pytest.fixture(scope="module")
def baseline(models: Models, requests: list[Request]) -> list[Generation]:
    return _decode(models, "baseline", requests, record_gaps=True)


@pytest.mark.parametrize("method", ["ngram", "speculative", "entropy_stop", SELF_DRAFT], ids=str)
def test_greedy_equality(
    method: str | dict, models: Models, requests: list[Request], baseline: list[Generation]
) -> None:
    different = []
    for ours, plain in zip(_decode(models, method, requests), baseline, strict=True):
        at = first_difference(ours.tokens, plain.tokens)
        if at is not None and plain.gaps[at] >= near_tie(models.target.dtype):
            different.append((ours.id, at, plain.gaps[at]))
    assert not different


def _decode(models: Models, method: str | dict, requests: list[Request], record_gaps: bool = False) -> list[Generation]:
    decoder = methods.decoder(methods.resolve(method, "test"), models, record_gaps=record_gaps)
    batches = [requests[i : i + BATCH] for i in range(0, len(requests), BATCH)]
    return [generation for batch in batches for generation in decoder.generate(batch, SAMPLING)]
