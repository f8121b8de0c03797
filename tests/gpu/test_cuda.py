"""The loop on a GPU, with random weights: nothing to carry, nothing to download."""

import pytest
import torch

from toolkit import methods
from toolkit.engine.types import Request, Sampling
from toolkit.hub import ModelConfig, Models

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
METHODS = ["ngram", "speculative", "entropy_stop"]
REQUESTS = [Request(i, tuple(range(60, 70 + 7 * i))) for i in range(4)]


@pytest.fixture(scope="module")
def models() -> Models:
    return Models(ModelConfig("tiny-random:llama", dtype="float32", device="cuda"))


def _decode(models: Models, method: str, sampling: Sampling) -> list[list[int]]:
    decoder = methods.decoder(methods.resolve(method, "test"), models)
    return [generation.tokens for generation in decoder.generate(REQUESTS, sampling)]


@pytest.mark.parametrize("method", METHODS)
def test_greedy_equals_autoregression(models: Models, method: str) -> None:
    sampling = Sampling(max_new_tokens=64)
    assert _decode(models, method, sampling) == _decode(models, "baseline", sampling)


@pytest.mark.parametrize("method", METHODS)
def test_draws_do_not_depend_on_batch_mates(models: Models, method: str) -> None:
    sampling = Sampling(1.0, max_new_tokens=32)
    decoder = methods.decoder(methods.resolve(method, "test"), models)
    together = decoder.generate(REQUESTS, sampling)
    alone = [decoder.generate([request], sampling)[0] for request in REQUESTS]
    assert [g.tokens for g in together] == [g.tokens for g in alone]


def test_gpu_and_cpu_agree() -> None:
    """Same weights, same request: greedy texts are equal across devices in float32."""
    cpu = Models(ModelConfig("tiny-random:llama", dtype="float32", device="cpu"))
    gpu = Models(ModelConfig("tiny-random:llama", dtype="float32", device="cuda"))
    sampling = Sampling(max_new_tokens=48)
    assert _decode(cpu, "baseline", sampling) == _decode(gpu, "baseline", sampling)
