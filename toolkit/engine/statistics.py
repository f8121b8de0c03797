"""What is known of a drafted token once the target has judged it: both laws, and what lenience would make of them.

Features (entropies, margins, ranks, KL, TV, log p, log q) are of the raw laws at temperature 1, whatever the sampling:
a policy must mean the same under every temperature. What decides about acceptance is of the laws that are sampled from
(`warp`), or, at temperature 0, of the target's raw law beside its largest value.

With p and q warped, T >= 1, m = min(q, T p) and A(T) = sum m, the output law of a lenient rule (acceptance/fuzzy) is
out = m + (1 - A) r, with r = max(0, p - q) / sum max(0, p - q). Where q >= p, out - p = m - p >= 0; elsewhere it is at
most 0. So TV(out, p) = sum over q >= p of (m - p) = A(T) - A(1): what lenience adds to the acceptance, it adds to the
divergence.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from toolkit.engine.sampling import warp
from toolkit.engine.types import Sampling
from toolkit.engine.vocabulary import Vocabulary

LENIENCE = (1.0, 1.22, 1.49, 1.82, 2.22, 2.71, 3.30, 4.00)  # JointAdaSpec's multipliers T


_LEAST = 1e-4  # D of a tie; a trace keeps half precision


def judged(
    p: Tensor,  # [M, V] the target's raw logits, of the law that each token was judged by
    q: Tensor,  # [M, V or D] the draft's raw logits, of the law that it was drawn from
    tokens: Tensor,  # [M] int64 target ids
    vocabulary: Vocabulary | None,  # of q
    sampling: Sampling,
    lenience: Sequence[float],
) -> dict[str, Tensor]:
    """-> columns [M]; `accept_T` and `tv_T` are [M, len(lenience)]."""
    picked = tokens[:, None]
    place = picked if vocabulary is None else torch.searchsorted(vocabulary.ids, picked)  # [M, 1] in q's ids
    logp, logq = p.float().log_softmax(-1), q.float().log_softmax(-1)
    shared = logp if vocabulary is None else logp[:, vocabulary.ids]  # [M, D]: p where q has tokens
    own_p, own_q = logp.gather(1, picked), logq.gather(1, place)
    prob_p, prob_q = logp.exp(), logq.exp()
    best_p, best_q = prob_p.topk(2, -1).values, prob_q.topk(2, -1).values
    columns = {
        "log_p": own_p[:, 0],
        "log_q": own_q[:, 0],
        "entropy_p": _entropy(prob_p, logp),
        "entropy_q": _entropy(prob_q, logq),
        "margin_p": best_p[:, 0] - best_p[:, 1],
        "margin_q": best_q[:, 0] - best_q[:, 1],
        "kl": (prob_q * (logq - shared)).sum(-1),
        "tv": (prob_q - shared.exp()).clamp_(min=0).sum(-1),  # both sum to 1, and q is 0 elsewhere
        "rank_p": 1 + (logp > own_p).sum(-1),
        "rank_q": 1 + (logq > own_q).sum(-1),
    }
    if sampling.greedy:
        return columns | _greedy(p, tokens, lenience)
    if (sampling.temperature, sampling.top_k, sampling.top_p) != (1.0, 0, 1.0):
        logp, logq = warp(p, sampling), warp(q, sampling)
        shared = logp if vocabulary is None else logp[:, vocabulary.ids]
        own_p, own_q = logp.gather(1, picked), logq.gather(1, place)
        prob_q = logq.exp()
    prob_p = shared.exp()
    accept = torch.stack([torch.minimum(prob_q, prob_p * t).sum(-1) for t in lenience], 1).clamp_(max=1.0)
    strict = torch.minimum(prob_q, prob_p).sum(-1, keepdim=True)
    return columns | {
        "log_ratio": (own_p - own_q)[:, 0],
        "accept_T": accept,
        "tv_T": (accept - strict).clamp_(min=0),
    }


def _greedy(p: Tensor, tokens: Tensor, lenience: Sequence[float]) -> dict[str, Tensor]:
    """A token passes if it is the target's choice, or T p(x) >= max p. D = 1 - p(x) / max p where a miss passes."""
    scores = p.float()
    hit = tokens == p.argmax(-1)
    behind = scores.amax(-1) - scores.gather(1, tokens[:, None])[:, 0]  # log(max p / p(x)) >= 0
    passes = torch.stack([hit | ((behind <= torch.tensor(t).log()) & (t > 1.0)) for t in lenience], 1)
    # A tie that passes costs next to nothing, but not nothing: however dear divergence is, T = 1 must be cheaper
    loss = torch.where(hit, 0.0, (-torch.expm1(-behind)).clamp(min=_LEAST))[:, None]
    # A tie that the target resolves otherwise is a miss: the smallest number below 0 says so
    ratio = torch.where(hit, 0.0, (-behind).clamp(max=-torch.finfo(torch.float32).tiny))
    return {"log_ratio": ratio, "accept_T": passes.float(), "tv_T": passes * loss}


def _entropy(prob: Tensor, log: Tensor) -> Tensor:
    """Nats; a token of probability 0 adds nothing."""
    return -(prob * log.clamp(min=torch.finfo(torch.float32).min)).sum(-1)
