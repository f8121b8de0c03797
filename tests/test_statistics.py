"""What a trace says of a drafted token, beside the definitions: laws written out, sums over the whole vocabulary."""

import itertools

import pytest
import torch
from torch import Tensor

from toolkit.engine.sampling import warp
from toolkit.engine.statistics import LENIENCE, judged
from toolkit.engine.types import Sampling
from toolkit.engine.vocabulary import Vocabulary

V, M = 23, 60
WARPS = [Sampling(1.0), Sampling(0.6), Sampling(1.0, top_k=5), Sampling(1.3, top_p=0.8)]


def laws(trimmed: bool) -> tuple[Tensor, Tensor, Vocabulary | None]:
    generator = torch.Generator().manual_seed(1 + trimmed)
    vocabulary = Vocabulary(torch.tensor([0, 2, 3, 7, 8, 11, 15, 19, 22]), V) if trimmed else None
    p = 2 * torch.randn(M, V, generator=generator)
    q = 2 * torch.randn(M, len(vocabulary) if trimmed else V, generator=generator)
    return p, q, vocabulary


def spread(logq: Tensor, vocabulary: Vocabulary | None) -> Tensor:
    return logq if vocabulary is None else vocabulary.spread(logq)


def drawn(q: Tensor, vocabulary: Vocabulary | None, sampling: Sampling) -> Tensor:
    if sampling.greedy:
        own = q.argmax(-1)
    else:
        own = torch.multinomial(warp(q, sampling).exp(), 1, generator=torch.Generator().manual_seed(3))[:, 0]
    return own if vocabulary is None else vocabulary.tokens(own)


def out_law(p: Tensor, q: Tensor, lenience: float) -> Tensor:
    """The law that acceptance/fuzzy emits, as its docstring defines it."""
    kept = torch.minimum(q, lenience * p)
    rest = (p - q).clamp(min=0)
    rest = torch.where(rest.sum(-1, keepdim=True) > 0, rest / rest.sum(-1, keepdim=True).clamp(min=1e-30), p)
    return kept + (1 - kept.sum(-1, keepdim=True)) * rest


@pytest.mark.parametrize(("trimmed", "sampling"), list(itertools.product([False, True], WARPS)))
def test_sampled(trimmed: bool, sampling: Sampling) -> None:
    raw_p, raw_q, vocabulary = laws(trimmed)
    tokens = drawn(raw_q, vocabulary, sampling)
    found = judged(raw_p, raw_q, tokens, vocabulary, sampling, LENIENCE)
    p, q = warp(raw_p, sampling).double().exp(), spread(warp(raw_q, sampling), vocabulary).double().exp()
    for i, t in enumerate(LENIENCE):
        out = out_law(p, q, t)
        assert torch.allclose(out.sum(-1), torch.ones(M, dtype=torch.float64))
        assert torch.allclose(found["accept_T"][:, i].double(), torch.minimum(q, t * p).sum(-1), atol=1e-5)
        assert torch.allclose(found["tv_T"][:, i].double(), 0.5 * (out - p).abs().sum(-1), atol=1e-5)
    at = torch.arange(M)
    ratio = (p[at, tokens] / q[at, tokens]).log()
    assert torch.allclose(found["log_ratio"].double(), ratio, atol=1e-4)


@pytest.mark.parametrize("trimmed", [False, True])
@pytest.mark.parametrize("sampling", [Sampling(0.0), Sampling(0.6, top_k=3)])
def test_features_are_of_the_raw_laws(trimmed: bool, sampling: Sampling) -> None:
    raw_p, raw_q, vocabulary = laws(trimmed)
    tokens = drawn(raw_q, vocabulary, sampling)
    found = judged(raw_p, raw_q, tokens, vocabulary, sampling, LENIENCE)
    p, q = raw_p.double().softmax(-1), spread(raw_q.log_softmax(-1), vocabulary).double().exp()
    at = torch.arange(M)
    kl = torch.where(q > 0, q * (q.clamp(min=1e-300).log() - p.log()), 0.0).sum(-1)
    expected = {
        "log_p": p[at, tokens].log(),
        "log_q": q[at, tokens].log(),
        "entropy_p": torch.special.entr(p).sum(-1),
        "entropy_q": torch.special.entr(q).sum(-1),
        "margin_p": p.sort(-1).values[:, -1] - p.sort(-1).values[:, -2],
        "margin_q": q.sort(-1).values[:, -1] - q.sort(-1).values[:, -2],
        "kl": kl,
        "tv": 0.5 * (p - q).abs().sum(-1),
        "rank_p": 1.0 + (p > p[at, tokens][:, None]).sum(-1),
        "rank_q": 1.0 + (q > q[at, tokens][:, None]).sum(-1),
    }
    for name, column in expected.items():
        assert torch.allclose(found[name].double(), column.double(), atol=1e-4), name


def test_greedy() -> None:
    """T = 1 passes the target's choice and nothing else, ties included; a miss that passes costs 1 - p(x) / max p."""
    p = torch.tensor([[2.0, 1.0, 0.0], [2.0, 2.0, 0.0], [2.0, 1.9, 0.0]])
    q = torch.tensor([[9.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 9.0, 0.0]])
    found = judged(p, q, torch.tensor([0, 1, 1]), None, Sampling(0.0), (1.0, 1.05, 2.0))
    assert found["accept_T"].tolist() == [[1, 1, 1], [0, 1, 1], [0, 0, 1]]
    loss = 1 - torch.tensor(-0.1).exp()
    assert torch.allclose(found["tv_T"], torch.tensor([[0, 0, 0], [0, 1e-4, 1e-4], [0, 0, loss]]), atol=1e-6)
    assert found["log_ratio"][0] == 0.0
    assert found["log_ratio"][1] < 0.0
    assert found["log_ratio"][2].item() == pytest.approx(-0.1, abs=1e-6)
