"""Temperature, top-k, top-p: one warp for target and draft, and one way to draw from what it returns.

Speculative sampling is exact for whatever p and q it is given, as long as the q reported is the q that was
sampled and both are normalised. So everything that draws or takes a ratio goes through `warp` here.
"""

import torch
from torch import Tensor

from toolkit.engine.types import Sampling

NEVER = float("-inf")


def warp(logits: Tensor, sampling: Sampling) -> Tensor:
    """Raw logits [..., V] -> normalised log-probabilities [..., V] in float32 or wider, -inf where cut.

    Order as in transformers: temperature, then top-k (ties at the k-th value are kept), then top-p (the
    smallest set of most likely tokens whose mass reaches p). Temperature 0 has no warp: compare argmaxes.
    """
    scores = logits.to(torch.promote_types(logits.dtype, torch.float32)) / sampling.temperature
    if 0 < sampling.top_k < scores.shape[-1]:
        kth = scores.topk(sampling.top_k, dim=-1).values[..., -1:]
        scores = scores.masked_fill(scores < kth, NEVER)
    if sampling.top_p < 1.0:
        ordered, index = scores.sort(dim=-1, descending=True)
        mass = ordered.softmax(-1)
        before = mass.cumsum(-1) - mass  # mass of the tokens ordered before; 0 for the first: it always stays
        cut = torch.zeros_like(scores, dtype=torch.bool).scatter(-1, index, before >= sampling.top_p)
        scores = scores.masked_fill(cut, NEVER)
    return scores.log_softmax(-1)


def draw(weights: Tensor, uniform: Tensor) -> Tensor:
    """Sample by inverse CDF. weights [..., V] >= 0, not all 0, need not sum to 1; uniform [...] -> [...] int64.

    Cumulated in float64: in float32 the tail of a large vocabulary would be lost.
    """
    cdf = weights.double().cumsum(-1)
    point = uniform[..., None] * cdf[..., -1:]
    return torch.searchsorted(cdf, point, right=True).squeeze(-1).clamp_(max=weights.shape[-1] - 1)
