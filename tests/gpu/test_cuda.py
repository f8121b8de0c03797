"""The loop on a GPU, with random weights: nothing to carry, nothing to download."""

import copy

import pytest
import torch

from tests.decode import greedy, judging
from tests.decode.models import SLIDING, TARGETS, Recipe, build, model
from tests.decode.routing import Told
from tests.decode.test_refill import decode
from toolkit import methods
from toolkit.acceptance.autojudge import AutoJudge
from toolkit.acceptance.rejection import Rejection
from toolkit.engine.loop import SpecDecoder
from toolkit.engine.runner import Runner
from toolkit.engine.types import Batch, Draft, LengthPolicy, Request, Sampling
from toolkit.hub import ModelConfig, Models
from toolkit.lengths.fixed import Fixed
from toolkit.proposers._groups import Profile
from toolkit.proposers.draft_model import DraftModel
from toolkit.proposers.ngram import NGram
from toolkit.proposers.routed import Routed

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


def _models(device: str) -> Models:
    return Models(ModelConfig("tiny-random:llama", dtype="float32", device=device))


def test_gates_choose_alike() -> None:
    """The same tokens of the same drafts on both devices, and as many calls."""
    found = []
    for device in ("cpu", "cuda"):
        decoder = methods.decoder(methods.resolve("consensus_autojudge", "test"), _models(device))
        done = decoder.generate(REQUESTS, Sampling(max_new_tokens=48))
        found.append([(one.tokens, one.sources, one.counters) for one in done])
    assert found[0] == found[1]
    assert {letter for _, sources, _ in found[0] for letter in sources} >= {"t"}


@pytest.mark.parametrize("features", [("target",), ("target", "draft", "distribution")], ids="+".join)
def test_judges_judge_alike(features: tuple[str, ...]) -> None:
    """The same mismatches stand on both devices."""
    found, shape = [], Recipe("llama", seed=0, hidden=64)
    for device in ("cpu", "cuda"):
        models = _models(device)
        plain = methods.decoder(methods.resolve("speculative", "test"), models)
        judge = copy.deepcopy(judging.judge(shape, shape, features))
        judge.net.to(device)
        accept = AutoJudge(judge, 0.0, models.target.n_layers)
        done = SpecDecoder(models.target, plain.proposer, plain.length, accept).generate(
            REQUESTS, Sampling(max_new_tokens=48)
        )
        found.append([(one.tokens, one.windows, one.counters) for one in done])
    assert found[0] == found[1]
    assert all(sum(counters[name] for *_, counters in found[0]) > 0 for name in ("judge_accepted", "judge_rejected"))


def test_a_bandit_is_told_what_each_draft_took() -> None:
    """A draft whose work is still on the device when the next one begins pays for it itself."""
    runner = Runner(build(TARGETS["llama"]).to("cuda"))

    class Slow(DraftModel):
        def propose(self, batch: Batch, length: LengthPolicy) -> Draft:
            torch.cuda._sleep(10**8)  # cycles: some 50 ms
            return super().propose(batch, length)

    router = Told(lambda asked: asked.request, learns=True)
    drafts = [Profile(kind.__name__, kind(runner), Fixed(2)) for kind in (Slow, DraftModel)]
    decoder = SpecDecoder(runner, Routed(drafts, router), Fixed(2), Rejection())
    for _ in range(2):  # the first is a warm-up
        router.observed.clear()
        decoder.generate([Request(i, (0, 1, 2), limit=8) for i in range(2)], Sampling(max_new_tokens=8))
    told = {draft: seconds for draft, _, seconds in router.observed}
    assert told[0] > 3 * told[1]


@pytest.mark.parametrize("target", [TARGETS["llama"], SLIDING], ids=lambda recipe: recipe.family)
def test_rows_go_on_with_other_requests(target: Recipe) -> None:
    """As mining has them; texts are those of the plain model on the CPU."""
    line, done = decode(NGram(1, 3), Runner(build(target).to("cuda")))
    for request, generation in zip(line.asked, done, strict=True):
        assert generation.tokens == greedy.autoregressive(model(target).plain, request.prompt, request.limit)
