"""JointAdaSpec: look up in a solved table whether to draft one more token, and how leniently to verify it.

The state is what is known before the token is sampled: the entropy H of the draft's law for it, its place k in the
window, and K_prev, the mean KL(q||p) over the row's last verified window up to and including its first rejection,
which that verification left behind (0 before the first). The public code reads the KL of the current place instead,
for which the target would have to be asked before every token. Laws are the raw ones at temperature 1.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from toolkit.engine.types import Batch, Draft, DraftView, Notes, TargetView, Verdict
from toolkit.errors import UserError
from toolkit.hub import Models
from toolkit.policy import STOP, Bins, Policy, Solution


@dataclass
class Config:
    policy: str  # a directory that train/jointadaspec.py wrote
    kappa: float = 1.0  # tokens that one unit of divergence costs; one of those that it was solved for
    order: str = "joint"  # or a cascade: length_then_verif, verif_then_length
    max: int | None = None  # longest window, tokens; null: the policy's


class JointAdaSpec:
    reads_logits = True

    def __init__(
        self, policy: Policy, solution: Solution, limit: int, made_for: str | None, device: torch.device
    ) -> None:
        self.bins, self.limit, self.made_for = policy.bins, limit, made_for
        self.records = policy.visits[np.arange(policy.bins.states), (solution.action != STOP).astype(int)]  # [n_states]
        self._note = policy.note(solution)
        self.writes = frozenset({self._note})
        self._edges = policy.bins.edges(device)
        self._stop = torch.from_numpy(solution.action == STOP).to(device)  # [n_states]
        grid = torch.tensor(policy.lenience)
        self._lenience = grid[torch.from_numpy(solution.lenient).long()].to(device)  # [n_states]
        self._reads_entropy, self._reads_k_prev = _reads(policy.bins, solution, limit)
        self.k_prev = torch.zeros(0, device=device)  # [B]

    def prefill(self, batch: Batch) -> None:
        self.k_prev = torch.zeros(len(batch), device=batch.device)

    def attend(self) -> None:
        """From now on compute the whole state at every place, also where the table does not depend on it."""
        self._reads_entropy, self._reads_k_prev = frozenset(range(self.limit)), True

    def state(self, view: DraftView) -> Tensor:
        """[B] int64."""
        if view.depth in self._reads_entropy:
            logq = view.logits.float().log_softmax(-1)
            entropy = -(logq.exp() * logq).sum(-1)  # [B]
        else:
            entropy = torch.zeros_like(self.k_prev)  # any will do
        return self.bins.encode(self._edges, entropy, self.k_prev, view.depth)

    def stop(self, view: DraftView) -> tuple[Tensor | None, Notes]:
        state = self.state(view)
        return self._stop[state], {self._note: self._lenience[state]}

    def observe(self, batch: Batch, draft: Draft, verdict: Verdict, target: TargetView) -> None:
        if not (draft.steps and self._reads_k_prev):
            return
        drafted = draft.valid.sum(1)
        seen = torch.minimum(verdict.accepted + 1, drafted)  # places up to and including the first rejection
        places = torch.arange(len(draft.steps), device=batch.device)
        kl = torch.where(places < seen[:, None], _divergence(draft, target), 0.0)
        self.k_prev = torch.where(drafted > 0, kl.sum(1) / seen.clamp(min=1), self.k_prev)

    def keep(self, rows: Tensor) -> None:
        self.k_prev = self.k_prev[rows.to(self.k_prev.device)]


def _reads(bins: Bins, solution: Solution, limit: int) -> tuple[frozenset[int], bool]:
    """-> the places at which what is done depends on the entropy, and whether K_prev matters at any.

    Where a table says the same for all, as that of a fixed window does, nothing has to be computed to look it up.
    """
    done = np.stack([solution.action == STOP, solution.lenient]).reshape(2, *bins.shape)[..., :limit]
    by_entropy = (done != done[:, :1]).any((0, 1, 2))  # [limit]
    return frozenset(np.flatnonzero(by_entropy).tolist()), bool((done != done[:, :, :1]).any())


def _divergence(draft: Draft, target: TargetView) -> Tensor:
    """KL(q||p) of every place, [B, N], over the tokens that the draft has: elsewhere q is 0."""
    logq = torch.stack([step.logits for step in draft.steps], 1).float().log_softmax(-1)  # [B, N, V or D]
    scores = target.logits[:, :-1].float()
    whole = scores.logsumexp(-1, keepdim=True)  # over the target's whole vocabulary
    logp = (scores if draft.vocabulary is None else scores[..., draft.vocabulary.ids]) - whole
    return (logq.exp() * (logq - logp)).sum(-1)


def build(config: Config, models: Models) -> JointAdaSpec:
    policy, made_for = models.policy(config.policy)
    where = f"length jointadaspec: {config.policy}"
    solution = policy.solution(config.order, config.kappa, where)
    config.max = policy.bins.k_max if config.max is None else config.max
    if not 1 <= config.max <= policy.bins.k_max:
        raise UserError(
            f"{where}: max is {config.max}; expected 1 to {policy.bins.k_max}, the longest window it was made for"
        )
    return JointAdaSpec(policy, solution, min(config.max, solution.limit(policy.bins)), made_for, models.target.device)
