"""D of the lossy rules: beside the law that they emit, written out, and beside the trace of the same decode."""

import pytest
import torch

from toolkit import methods
from toolkit.acceptance.fuzzy import Fuzzy
from toolkit.acceptance.rejection import Rejection
from toolkit.acceptance.topk import TopK
from toolkit.engine.loop import SpecDecoder
from toolkit.engine.sampling import warp
from toolkit.engine.statistics import LENIENCE
from toolkit.engine.trace import Recorder
from toolkit.engine.types import AcceptanceRule, Batch, Draft, Request, Sampling, TargetView
from toolkit.hub import ModelConfig, Models

B, N, V = 3, 4, 11
REQUESTS = [Request(i, (60 + i, 71, 65)) for i in range(12)]


def scene(sampling: Sampling) -> tuple[Batch, Draft, TargetView]:
    generator = torch.Generator().manual_seed(5)
    logits = 2 * torch.randn(B, 1 + N, V, generator=generator)
    logq = warp(2 * torch.randn(B, N, V, generator=generator), sampling)
    tokens = torch.multinomial(logq.exp().view(-1, V), 1, generator=generator).view(B, N)
    onehot = torch.tensor([False, True, False])  # a row of prompt lookup among them
    valid = torch.ones(B, N, dtype=torch.bool)
    batch = Batch(torch.arange(B), None, torch.zeros(B, 1), None, None, None, sampling, None)
    return batch, Draft(tokens, valid, onehot, logq), TargetView(logits, {})


@pytest.mark.parametrize("sampling", [Sampling(1.0), Sampling(0.7, top_k=6), Sampling(1.0, top_p=0.9)])
@pytest.mark.parametrize(
    ("rule", "chance"),
    [
        (Rejection(), lambda p, q: torch.ones_like(p)),
        (Fuzzy(1.8, [3.0]), lambda p, q: torch.tensor([3.0, 1.8, 1.8, 1.8])[:, None].expand(p.shape)),
        (TopK(2), None),
        (TopK(None), None),
    ],
)
def test_sampled(rule: AcceptanceRule, chance, sampling: Sampling) -> None:
    batch, draft, target = scene(sampling)
    p = warp(target.logits[:, :-1], sampling).double().exp()
    q = draft.logq.double().exp()
    q[1] = torch.nn.functional.one_hot(draft.tokens[1], V).double()
    if chance is not None:
        kept = torch.minimum(q, chance(p, q) * p)
    else:
        best = target.logits[:, :-1].topk(rule.k or V, -1).indices
        kept = torch.minimum(q, p).scatter(-1, best, q.gather(-1, best))
    rest = (p - q).clamp(min=0)
    out = kept + (1 - kept.sum(-1, keepdim=True)) * rest / rest.sum(-1, keepdim=True)
    assert torch.allclose(out.sum(-1), torch.ones(B, N, dtype=torch.float64))
    found = rule.divergence(batch, draft, target).double()
    assert torch.allclose(found, 0.5 * (out - p).abs().sum(-1), atol=1e-5)
    assert (found.max() > 0.01) != isinstance(rule, Rejection)


def test_greedy() -> None:
    batch, draft, target = scene(Sampling(1.0))
    batch.sampling = Sampling(0.0)
    p1 = target.logits[:, :-1].softmax(-1)
    share = p1.gather(-1, draft.tokens[..., None])[..., 0] / p1.amax(-1)  # [B, N]
    for rule, passes in ((Fuzzy(4.0, []), share >= 0.25), (TopK(None), torch.ones(B, N, dtype=torch.bool))):
        expected = torch.where(passes, 1 - share, 0.0)
        assert torch.allclose(rule.divergence(batch, draft, target), expected, atol=1e-5)
    assert (share >= 0.25).any()
    assert Rejection().divergence(batch, draft, target).sum() == 0


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_decode_sums_up_what_its_trace_has(temperature: float) -> None:
    models = Models(ModelConfig("tiny-random:llama"))
    method = methods.resolve("speculative", "test")
    recorder = Recorder()
    plain = methods.decoder(method, models)
    lenience = LENIENCE[3]
    parts = (plain.target, plain.proposer, plain.length, Fuzzy(lenience, []))
    decoder = SpecDecoder(*parts, trace=recorder, record_divergence=True)
    done = decoder.generate(REQUESTS, Sampling(temperature, max_new_tokens=24))
    _, places = recorder.tables()
    expected = {request.id: 0.0 for request in REQUESTS}
    standing = True
    for row in places.to_pylist():
        standing = row["depth"] == 0 or standing
        if standing:
            expected[row["request"]] += row["tv_T"][3]
        standing = standing and row["accepted"]
    assert sum(expected.values()) > 0.1
    for one in done:
        assert one.divergence == pytest.approx(expected[one.id], abs=0.02)  # the trace keeps float16
    assert all(one.divergence is None for one in plain.generate(REQUESTS, Sampling(temperature, max_new_tokens=4)))
