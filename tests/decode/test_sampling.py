"""The toolkit's warp and draw, beside the reference's and beside the law."""

import numpy as np
import pytest
import torch

from tests.decode import exact
from tests.decode.stats import chi_square, judge
from toolkit.engine.sampling import draw, warp
from toolkit.engine.types import Sampling

SAMPLINGS = [
    Sampling(0.7),
    Sampling(1.0),
    Sampling(1.0, top_k=1),
    Sampling(1.3, top_k=3),
    Sampling(1.0, top_p=0.8),
    Sampling(0.5, top_p=0.01),
    Sampling(1.0, top_k=6, top_p=0.6),
    Sampling(2.0, top_k=100),
]


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
def test_warp_equals_the_reference(sampling: Sampling) -> None:
    logits = torch.randn(500, 12, generator=torch.Generator().manual_seed(0)).double() * 3
    logp = warp(logits, sampling)
    assert np.allclose(logp.exp().numpy(), exact.warp(logits.numpy(), sampling), atol=1e-9)
    assert torch.equal(warp(logits[None], sampling)[0], logp)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_warp_is_at_least_float32(dtype: torch.dtype) -> None:
    logp = warp(torch.randn(4, 9).to(dtype), Sampling(0.7, top_p=0.9))
    assert logp.dtype == torch.float32
    assert torch.allclose(logp.exp().sum(-1), torch.ones(4))


def test_draw_has_the_law_of_its_weights() -> None:
    """Unnormalised, with holes."""
    weights = torch.tensor([0.0, 3.0, 0.0, 1.0, 2.0, 0.0])
    uniform = torch.rand(60_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    counts = np.bincount(draw(weights.expand(len(uniform), -1), uniform).numpy(), minlength=6)
    judge("draw", chi_square([counts], [(weights / weights.sum()).double().numpy() * len(uniform)]))


@pytest.mark.parametrize("uniform", [0.0, 1.0 - 2.0**-52])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_draw_never_returns_a_hole(uniform: float, scale: float) -> None:
    """At either end of the unit interval."""
    weights = torch.tensor([0.0, 0.0, 0.3, 0.7, 0.0, 0.0]) * scale
    assert draw(weights, torch.tensor(uniform, dtype=torch.float64)) == (2 if uniform == 0.0 else 3)


def test_draw_sees_the_tail_of_a_large_vocabulary() -> None:
    """In float32 the cumulated tail of 150,000 equal weights would be off by hundreds of tokens."""
    size = 150_000
    picked = draw(torch.full((size,), 1.0 / size), torch.tensor([0.25, 0.75, 0.999999], dtype=torch.float64)[:, None].T)
    assert torch.allclose(picked.double() / size, torch.tensor([0.25, 0.75, 0.999999], dtype=torch.float64), atol=1e-5)
