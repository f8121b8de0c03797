"""The parts that rules for a chain of candidates share: coins, the accepted prefix, and the token after it.

Candidate x at a position with target law p and draft law q is accepted with probability min(1, T p(x)/q(x)). On
rejection the next token is drawn from max(0, p - q), normalised. That is the residual for every T >= 1: the mass
T lets through in excess of q only lies where p <= q anyway. If the residual is empty, p itself is drawn from.
"""

import torch
from torch import Tensor

from toolkit.engine.rng import Purpose
from toolkit.engine.sampling import draw, warp
from toolkit.engine.types import Batch, Draft, TargetView, Verdict


def lenient(batch: Batch, draft: Draft, target: TargetView, lenience: Tensor) -> Verdict:
    """The rule above, T >= 1 by place: lenience [N] or [B, N]. At temperature 0 x passes iff T p1(x) >= max p1."""
    if batch.sampling.greedy:
        best = target.logits.argmax(-1)  # [B, 1+N]
        rows = target.logits[:, :-1].float()
        behind = rows.amax(-1) - rows.gather(-1, draft.tokens[..., None]).squeeze(-1)  # log(max p1 / p1(x)), [B, N]
        passes = (draft.tokens == best[:, :-1]) | ((behind <= lenience.log()) & (lenience > 1.0))
        return conclude_greedy(draft, passes, best)
    logp = warp(target.logits, batch.sampling)
    return conclude_sampled(batch, draft, coins(batch, draft, logp, lenience), logp)


def coins(batch: Batch, draft: Draft, logp: Tensor, lenience: Tensor | float) -> Tensor:
    """[B, N] bool: does each candidate pass on its own? logp: [B, 1+N, V] warped; lenience T: [B, N], [N], a number."""
    width = draft.tokens.shape[1]
    picked = draft.tokens[..., None]
    ratio = logp[:, :width].gather(-1, picked).squeeze(-1)  # log p(x), [B, N]
    if draft.logq is not None:
        logq = draft.logq.gather(-1, picked).squeeze(-1)
        ratio = ratio - logq.masked_fill(draft.onehot[:, None], 0.0)
    depths = torch.arange(width, device=batch.device).expand(len(batch), -1)
    return batch.rng.uniform(Purpose.COIN, depths) < lenience * ratio.double().exp()


def prefix(draft: Draft, accept: Tensor) -> Tensor:
    """[B, N] bool -> [B]: how many candidates stand before the first that does not."""
    return (accept & draft.valid).long().cumprod(1).sum(1)


def conclude_greedy(draft: Draft, accept: Tensor, best: Tensor) -> Verdict:
    """Keep the accepted prefix; next comes the target's own choice there. best: [B, 1+N] argmaxes."""
    accepted = prefix(draft, accept)
    return Verdict(accepted, best.gather(1, accepted[:, None]).squeeze(1))


def conclude_sampled(batch: Batch, draft: Draft, accept: Tensor, logp: Tensor) -> Verdict:
    """Keep the accepted prefix; next comes a draw from the residual after a rejection, from p after a full window."""
    accepted = prefix(draft, accept)
    row = accepted[:, None, None].expand(-1, 1, logp.shape[-1])
    p = logp.gather(1, row).squeeze(1).exp()  # [B, V]: law of the token after the accepted ones
    bonus = batch.rng.uniform(Purpose.BONUS, accepted)
    if draft.tokens.shape[1] == 0:
        return Verdict(accepted, draw(p, bonus))
    rejected = accepted < draft.valid.sum(1)
    weights = torch.where(rejected[:, None], _residual(draft, accepted, p), p)
    uniform = torch.where(rejected, batch.rng.uniform(Purpose.RESIDUAL, accepted), bonus)
    return Verdict(accepted, draw(weights, uniform))


def _residual(draft: Draft, accepted: Tensor, p: Tensor) -> Tensor:
    """max(0, p - q) at each row's first unaccepted candidate, p where that is empty -> [B, V]."""
    last = draft.tokens.shape[1] - 1
    at = accepted.clamp(max=last)[:, None]  # rows with a full window do not use the result
    q = torch.zeros_like(p).scatter_(1, draft.tokens.gather(1, at), 1.0)
    if draft.logq is not None:
        sampled = draft.logq.gather(1, at[..., None].expand(-1, 1, p.shape[-1])).squeeze(1).exp()
        q = torch.where(draft.onehot[:, None], q, sampled)
    rest = (p - q).clamp_(min=0.0)
    return torch.where(rest.sum(-1, keepdim=True) > 0, rest, p)
