"""Fitting the acceptance head: states and soft labels out of recorded windows, weighted cross-entropy, AdamW.

The label of a drafted token is the chance that it passes, min(1, p/q), whether or not one before it was rejected: the
places behind a rejection were drafted and verified like any other. A rejected token weighs more than an accepted one,
as in the paper: a window that is too long costs more than one that is too short.
"""

import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.nets.heads import ACCEPT, AcceptanceHead
from toolkit.training.traces import Windows

_REJECT = 1 - ACCEPT
_ROWS = 8192  # states in one forward without gradients
_SURE = 1e-6  # no probability is taken to be nearer to 0 or 1
_STILL = 1e-3  # a dimension that varies less than this share of the average one is left at that


@dataclass
class HeadFitConfig:
    """The run."""

    epochs: int = 3
    lr: float = 1e-3
    warmup: float = 0.03  # share of the steps; a cosine to zero follows
    batch: int = 1024  # positions
    weight_decay: float = 0.01
    reject: float = 6.0  # weight of a rejected token in the loss
    accept: float = 1.0  # and of an accepted one


@dataclass(frozen=True)
class Examples:
    """Drafted tokens whose state was seen."""

    hidden: Tensor  # [N, H] float16: the draft's state of the token
    label: Tensor  # [N] float32: the chance that it passes

    def __len__(self) -> int:
        return len(self.label)


def labels(windows: Windows) -> np.ndarray:
    """[n, K]: min(1, p/q) of each drafted token; at temperature 0 whether it is the target's choice."""
    if windows.temperature == 0:
        return (windows.log_ratio >= 0).astype(np.float32)
    return np.exp(np.minimum(windows.log_ratio, 0)).astype(np.float32)


def examples(windows: Windows, rows: np.ndarray) -> Examples:
    """Of these windows ([n] bool). A place's recorded state is the one that it was drawn from: of the token before."""
    seen = windows.valid[:, 1:] & rows[:, None]  # [n, K-1]: was another token drawn from this token's state?
    hidden = torch.from_numpy(windows.draft_hidden[:, 1:][seen])
    return Examples(hidden, torch.from_numpy(labels(windows)[:, :-1][seen]))


def loss(logits: Tensor, label: Tensor, settings: HeadFitConfig) -> tuple[Tensor, Tensor]:
    """[N, 2], [N] -> cross-entropy summed over positions by weight, and the sum of the weights."""
    logp = logits.float().log_softmax(-1)
    accept, reject = settings.accept * label, settings.reject * (1 - label)
    return -(accept * logp[:, ACCEPT] + reject * logp[:, _REJECT]).sum(), (accept + reject).sum()


def constant(label: Tensor, settings: HeadFitConfig) -> float:
    """The f that has the least loss where nothing is known of a token."""
    accept, reject = settings.accept * float(label.mean()), settings.reject * float(1 - label.mean())
    return accept / (accept + reject)


def made(data: Examples, settings: HeadFitConfig, blocks: int, seed: int) -> AcceptanceHead:
    """A fresh head that sees these states at zero mean and unit variance, and says the best constant of all."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = AcceptanceHead(data.hidden.shape[1], blocks)
    total = torch.zeros(head.width, dtype=torch.float64)
    squares = torch.zeros_like(total)
    for part in data.hidden.split(_ROWS):
        total += part.double().sum(0)
        squares += part.double().square().sum(0)
    mean = total / len(data)
    spread = (squares / len(data) - mean.square()).clamp(min=0).sqrt()
    spread = spread.clamp(min=_STILL * float(spread.mean()) or 1.0)
    head.mean.copy_(mean)
    head.scale.copy_(1 / spread)
    with torch.no_grad():
        head.out.weight.zero_()
        head.out.bias.zero_()
        head.out.bias[ACCEPT] = torch.logit(torch.tensor(constant(data.label, settings)), eps=_SURE)
    return head


def fit(head: AcceptanceHead, train: Examples, valid: Examples, settings: HeadFitConfig, seed: int) -> list[float]:
    """Train in place, keep the best epoch -> the held-out loss before and after each epoch.

    A function of its arguments: the order of the positions comes from the seed. Weights end as they will be stored.
    """
    device = head.mean.device
    decayed = [parameter for parameter in head.parameters() if parameter.ndim > 1]
    plain = [parameter for parameter in head.parameters() if parameter.ndim == 1]
    groups = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=settings.lr, weight_decay=settings.weight_decay)
    steps = settings.epochs * math.ceil(len(train) / settings.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _share(step, steps, settings.warmup))
    order = torch.Generator().manual_seed(seed)
    curve, best = [held_out_loss(head, valid, settings)], copy.deepcopy(head.state_dict())
    for _ in range(settings.epochs):
        for chosen in torch.randperm(len(train), generator=order).split(settings.batch):
            summed, weight = loss(head(train.hidden[chosen].to(device)), train.label[chosen].to(device), settings)
            optimizer.zero_grad(set_to_none=True)
            (summed / weight).backward()
            nn.utils.clip_grad_norm_(head.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        curve.append(held_out_loss(head, valid, settings))
        if not math.isfinite(curve[-1]):
            raise UserError(f"the held-out loss is {curve[-1]} after epoch {len(curve) - 1}: lower train.lr.")
        if curve[-1] == min(curve):
            best = copy.deepcopy(head.state_dict())
    head.load_state_dict(best)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(parameter.half())
    return curve


def held_out_loss(head: AcceptanceHead, data: Examples, settings: HeadFitConfig) -> float:
    """The weighted cross-entropy a unit of weight."""
    f = torch.from_numpy(probabilities(head, data.hidden)).clamp(_SURE, 1 - _SURE)
    summed, weight = loss(torch.stack([1 - f, f], -1).log(), data.label, settings)
    return float(summed / weight)


@torch.no_grad()
def probabilities(head: AcceptanceHead, hidden: Tensor) -> np.ndarray:
    """[N, H] on the CPU -> f [N] float32."""
    parts = [head.probability(part.to(head.mean.device)).cpu() for part in hidden.split(_ROWS)]
    return torch.cat(parts).numpy()


def _share(step: int, steps: int, warmup: float) -> float:
    """Of the learning rate, at a step."""
    warm = max(1, round(warmup * steps))
    if step < warm:
        return (step + 1) / warm
    return (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))) / 2
