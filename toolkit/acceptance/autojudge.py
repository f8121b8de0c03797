"""AutoJudge (Garipov et al. 2025, arXiv 2504.20039): a mismatch stands where a classifier thinks it unimportant. Lossy.

A candidate that speculative sampling would reject (at temperature 0: that is not the target's argmax; above, whose
coin fails) is judged from the target's state of it, which the verification has at hand, so any proposer will do. It
stands where P(important) is below the threshold; else the correction is drawn as usual. Threshold 0 is speculative
sampling, and nothing is judged; threshold 1 accepts everything.

A judge may read the draft's laws or states as well: then it is of one draft. Where it reads states, the last token of a
window, whose state the draft has not computed, is never rescued.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from toolkit.acceptance._chain import coins, conclude_greedy, conclude_sampled, lost, ratios
from toolkit.engine.sampling import warp
from toolkit.engine.statistics import judged
from toolkit.engine.types import Batch, Draft, Sampling, TargetView, Verdict, Wants
from toolkit.errors import UserError
from toolkit.hub import Models
from toolkit.nets.judge import COLUMNS, Judge, join

_RAW = Sampling()  # features are of the raw laws, whatever is sampled from


@dataclass
class Config:
    judge: str  # a directory that train/autojudge.py wrote
    threshold: float | None = None  # on P(important), 0 to 1; null: the judge's own
    recall: float | None = None  # instead: the threshold that keeps this share of what is important; one of its table


class AutoJudge:
    reads: frozenset[str] = frozenset()
    needs_gate = False

    def __init__(self, judge: Judge, limit: float, n_layers: int, made_for: str | None = None) -> None:
        """limit: the logit of the threshold. n_layers: of the target."""
        self.judge, self.limit, self.made_for = judge, limit, made_for
        self._last = n_layers
        self._judges = math.isfinite(limit)
        self.wants = Wants(frozenset({n_layers} if self._judges and "target" in judge.features else ()))

    def lossless(self, sampling: Sampling) -> bool:
        return self.limit == -math.inf

    def verify(self, batch: Batch, draft: Draft, target: TargetView) -> Verdict:
        spared = self._unimportant(draft, target)
        if batch.sampling.greedy:
            best = target.logits.argmax(-1)  # [B, 1+N]
            passes = draft.tokens == best[:, :-1]
            verdict = conclude_greedy(draft, passes | spared, best)
        else:
            logp = warp(target.logits, batch.sampling)  # [B, 1+N, V]
            passes = coins(batch, draft, logp, 1.0)
            verdict = conclude_sampled(batch, draft, passes | spared, logp)
        return replace(verdict, notes=_counts(draft, verdict, passes))

    def divergence(self, batch: Batch, draft: Draft, target: TargetView) -> Tensor:
        """Above temperature 0 an estimate from one token a place: whether others would be rescued is not known.

        The rule lets through sum u(x) (q(x) - min(q(x), p(x))) more than it should, u(x) = 1 where x is unimportant
        (`_chain.excess`). That is the mean over x ~ q of u(x) max(0, 1 - p(x)/q(x)), of which the token drawn is one
        sample: the sum over many places has the right expectation.
        """
        spared = self._unimportant(draft, target)
        if batch.sampling.greedy:
            return lost(draft, target, spared)
        excess = 1 - ratios(draft, warp(target.logits, batch.sampling))
        return torch.where(spared, excess.clamp(min=0), 0.0).float()

    def _unimportant(self, draft: Draft, target: TargetView) -> Tensor:
        """[B, N] bool: would each candidate be rescued? Of all at once: to find the mismatches first is to wait."""
        if not self._judges or draft.tokens.shape[1] == 0:
            return torch.full_like(draft.valid, self.limit > 0)
        logits = self.judge.net(join(self._parts(draft, target), self.judge.features))
        spared = logits < self.limit
        if "draft" in self.judge.features:
            places = torch.arange(draft.tokens.shape[1], device=spared.device)
            # A row's own last one, whatever its batch mates draft: its text must not depend on them
            spared = spared & (places + 1 < draft.valid.sum(1, keepdim=True))
        return spared

    def _parts(self, draft: Draft, target: TargetView) -> dict[str, Tensor]:
        """What the judge reads of every candidate, [B, N, n] each."""
        parts = {}
        if "target" in self.judge.features:
            parts["target"] = target.hidden[self._last][:, 1:]
        if "draft" in self.judge.features:
            states = [step.hidden for step in draft.steps]
            # The step behind a token has its state; the last one's is anything
            parts["draft"] = torch.stack([*states[1:], states[-1]], 1)
        if "distribution" in self.judge.features:
            p, q = target.logits[:, :-1].flatten(0, 1), torch.stack([step.logits for step in draft.steps], 1)
            found = judged(p, q.flatten(0, 1), draft.tokens.flatten(), draft.vocabulary, _RAW, (1.0,))
            parts["distribution"] = torch.stack([found[name] for name in COLUMNS], -1).view(*draft.tokens.shape, -1)
        return parts


def _counts(draft: Draft, verdict: Verdict, passes: Tensor) -> dict[str, Tensor]:
    """[B] each, of the mismatches up to and including the first that does not stand. passes: without the judge."""
    places = torch.arange(passes.shape[1], device=passes.device)
    behind = verdict.accepted[:, None]
    misses = draft.valid & ~passes
    total, accepted = (misses & (places <= behind)).sum(1), (misses & (places < behind)).sum(1)
    return {"judge_total": total, "judge_accepted": accepted, "judge_rejected": total - accepted}


def build(config: Config, models: Models) -> AutoJudge:
    where = f"acceptance autojudge: {config.judge}"
    if config.threshold is not None and config.recall is not None:
        raise UserError(f"{where}: has both a threshold and a recall; give one of them.")
    if config.threshold is not None and not 0 <= config.threshold <= 1:
        raise UserError(f"{where}: threshold is {config.threshold:g}; expected 0 (lossless) to 1 (accept everything).")
    judge, made_for = models.judge(config.judge)
    if config.threshold is None:
        row = judge.threshold(config.recall, where)
        config.threshold, limit = row.threshold, row.logit
    else:
        limit = logit(config.threshold)
    return AutoJudge(judge, limit, models.target.n_layers, made_for)


def logit(probability: float) -> float:
    """Of 0 and 1 as well: the two ends are thresholds too."""
    if probability in (0.0, 1.0):
        return math.copysign(math.inf, probability - 0.5)
    return math.log(probability) - math.log1p(-probability)
