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
        return conclude_greedy(draft, _close(draft, target, lenience), target.logits.argmax(-1))
    logp = warp(target.logits, batch.sampling)
    return conclude_sampled(batch, draft, coins(batch, draft, logp, lenience), logp)


def lenient_divergence(batch: Batch, draft: Draft, target: TargetView, lenience: Tensor) -> Tensor:
    """How far what `lenient` emits at each place is from the target's law -> D [B, N]; see `excess` and `lost`."""
    if batch.sampling.greedy:
        return lost(draft, target, _close(draft, target, lenience))
    p, q = laws(batch, draft, target)
    return excess(torch.minimum(q, lenience[..., None] * p), p, q)


def laws(batch: Batch, draft: Draft, target: TargetView) -> tuple[Tensor, Tensor]:
    """The warped laws p and q of every place, [B, N, V] each."""
    p = warp(target.logits[:, :-1], batch.sampling).exp()
    q = torch.zeros_like(p).scatter_(-1, draft.tokens[..., None], 1.0)
    if draft.logq is not None:
        q = torch.where(draft.onehot[:, None, None], q, draft.logq.exp())
    return p, q


def excess(kept: Tensor, p: Tensor, q: Tensor) -> Tensor:
    """TV between what is emitted and p, if `kept` (at least min(q, p) and at most q) of q stands -> [B, N].

    What lenience adds to the acceptance it adds to the divergence: toolkit.engine.statistics has the argument.
    """
    return (kept - torch.minimum(q, p)).sum(-1)


def lost(draft: Draft, target: TargetView, passes: Tensor) -> Tensor:
    """At temperature 0: 1 - p1(x) / max p1 where a candidate passes that is not the target's choice -> [B, N]."""
    miss = passes & (draft.tokens != target.logits[:, :-1].argmax(-1))
    return torch.where(miss, -torch.expm1(-_behind(draft, target)), 0.0)


def _close(draft: Draft, target: TargetView, lenience: Tensor) -> Tensor:
    """[B, N] bool: T p1(x) >= max p1; with T = 1 only the target's choice itself, of two that tie."""
    hit = draft.tokens == target.logits[:, :-1].argmax(-1)
    return hit | ((_behind(draft, target) <= lenience.log()) & (lenience > 1.0))


def _behind(draft: Draft, target: TargetView) -> Tensor:
    """log(max p1 / p1(x)) of every candidate, [B, N], of the target's raw law at temperature 1."""
    rows = target.logits[:, :-1].float()
    return rows.amax(-1) - rows.gather(-1, draft.tokens[..., None]).squeeze(-1)


def coins(batch: Batch, draft: Draft, logp: Tensor, lenience: Tensor | float) -> Tensor:
    """[B, N] bool: does each candidate pass on its own? logp: [B, 1+N, V] warped; lenience T: [B, N], [N], a number."""
    depths = torch.arange(draft.tokens.shape[1], device=batch.device).expand(len(batch), -1)
    return batch.rng.uniform(Purpose.COIN, depths) < lenience * ratios(draft, logp)


def ratios(draft: Draft, logp: Tensor) -> Tensor:
    """p(x)/q(x) of every candidate, [B, N] float64. logp: [B, 1+N, V] warped."""
    picked = draft.tokens[..., None]
    ratio = logp[:, : draft.tokens.shape[1]].gather(-1, picked).squeeze(-1)  # log p(x)
    if draft.logq is not None:
        logq = draft.logq.gather(-1, picked).squeeze(-1)
        ratio = ratio - logq.masked_fill(draft.onehot[:, None], 0.0)
    return ratio.double().exp()


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
