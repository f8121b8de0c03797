"""Fitting the router's network (Lightning), its confidences, and the confidence below which the fallback serves.

Labels are soft: softmax(-ms / label_ms) over the drafts, so that two drafts of nearly one speed are nearly one answer,
and a wrong choice counts by what it costs. `loss: regret` minimises the expected cost itself. The best epoch by the
held-out loss is kept; temperature and threshold come from the same held-out prompts, the report from others.
"""

import copy
import logging
import warnings
from dataclasses import dataclass
from typing import Literal

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from toolkit.nets.router import HIDDEN, RouterNet

Loss = Literal["soft", "regret"]
_TEMPERATURES = np.geomspace(0.05, 20.0, 121)
_THRESHOLDS = np.linspace(0.0, 0.99, 100)
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # not what devices it did not use


@dataclass
class TrainConfig:
    """The network, and what it is fitted to."""

    encoder: str = "minilm"  # or mpnet, a hub name, a path
    characters: int = 1000  # of a text's end that are embedded
    loss: Loss = "soft"
    label_ms: float | None = None  # milliseconds that make a draft e times less likely; null: 5% of the mean
    hidden: int = HIDDEN
    dropout: float = 0.1
    epochs: int = 60
    lr: float = 1e-3
    batch: int = 64
    weight_decay: float = 0.01
    threshold: float | None = None  # confidence below which the fallback serves; null: chosen on held-out prompts
    valid: float = 0.15  # share of the prompts that choose epoch, temperature and threshold
    test: float = 0.2  # share of the prompts that the report is of
    seed: int = 0


@dataclass(frozen=True)
class Part:
    """Prompts of one split."""

    features: Tensor  # [n, F]
    ms: Tensor  # [n, D] milliseconds a token under each draft

    def __len__(self) -> int:
        return len(self.ms)


@dataclass(frozen=True)
class Fitted:
    net: RouterNet
    temperature: float
    threshold: float
    curve: list[dict[str, float]]  # by epoch: train, valid
    best_epoch: int
    nll: dict[str, float]  # of the fastest draft on held-out prompts, before and after the temperature


class Learner(lightning.LightningModule):
    """The network under its loss; remembers its best weights."""

    def __init__(self, net: RouterNet, settings: TrainConfig, label_ms: float, scale: float) -> None:
        super().__init__()
        self.net, self.settings, self.label_ms, self.scale = net, settings, label_ms, scale
        self.curve: list[dict[str, float]] = []
        self.best, self.best_epoch = copy.deepcopy(net.state_dict()), -1
        self._sums = {"train": [0.0, 0], "valid": [0.0, 0]}

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        return self._step(batch, "train")

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        self._step(batch, "valid")

    def on_train_epoch_end(self) -> None:
        """After the validation of this epoch, as Lightning has it."""
        means = {name: total / count for name, (total, count) in self._sums.items()}
        if not self.curve or means["valid"] < min(one["valid"] for one in self.curve):
            self.best, self.best_epoch = copy.deepcopy(self.net.state_dict()), len(self.curve)
        self.curve.append(means)
        self._sums = {"train": [0.0, 0], "valid": [0.0, 0]}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.net.parameters(), lr=self.settings.lr, weight_decay=self.settings.weight_decay)

    def _step(self, batch: tuple[Tensor, Tensor], name: str) -> Tensor:
        features, ms = batch
        losses = loss(self.net(features), ms, self.settings.loss, self.label_ms, self.scale)  # [n]
        self._sums[name][0] += float(losses.detach().sum())
        self._sums[name][1] += len(losses)
        return losses.mean()


def loss(logits: Tensor, ms: Tensor, kind: Loss, label_ms: float, scale: float) -> Tensor:
    """[n, D] each -> [n]. scale: milliseconds that count as 1 in the expected regret."""
    if kind == "soft":
        return -((-ms / label_ms).softmax(-1) * logits.log_softmax(-1)).sum(-1)
    return (logits.softmax(-1) * (ms - ms.amin(-1, keepdim=True))).sum(-1) / scale


def fit(train: Part, valid: Part, fallback: int, settings: TrainConfig) -> Fitted:
    """fallback: the draft that serves where the network is not sure."""
    mean_ms = float(train.ms.mean())
    label_ms = settings.label_ms or 0.05 * mean_ms
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning advises on loaders and loggers at length
        torch.manual_seed(settings.seed)
        net = RouterNet(train.features.shape[1], train.ms.shape[1], settings.hidden, settings.dropout)
        net.mean.copy_(train.features.mean(0))
        deviation = train.features.std(0, correction=0)
        net.scale.copy_(
            torch.where(deviation > 1e-6, 1 / deviation.clamp(min=1e-6), 0.0)
        )  # what never varies says nothing
        learner = Learner(net, settings, label_ms, mean_ms)
        trainer = lightning.Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=settings.epochs,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(learner, _batches(train, settings, shuffle=True), _batches(valid, settings, shuffle=False))
    net.load_state_dict(learner.best)
    logits = outputs(net, valid)
    temperature, nll = calibrated(logits, valid.ms)
    threshold = settings.threshold
    if threshold is None:
        threshold = chosen_threshold((logits / temperature).softmax(-1), valid.ms, fallback)
    return Fitted(net, temperature, threshold, learner.curve, learner.best_epoch, nll)


@torch.no_grad()
def outputs(net: RouterNet, part: Part) -> Tensor:
    """[n, D] logits."""
    return net.eval()(part.features)


def calibrated(logits: Tensor, ms: Tensor) -> tuple[float, dict[str, float]]:
    """-> the temperature under which the fastest drafts are likeliest (least NLL), and the NLL without and with it."""
    best = ms.argmin(-1)
    losses = [float(torch.nn.functional.cross_entropy(logits / t, best)) for t in _TEMPERATURES]
    least = int(np.argmin(losses))
    before = float(torch.nn.functional.cross_entropy(logits, best))
    return float(_TEMPERATURES[least]), {"before": before, "after": losses[least]}


def chosen_threshold(probabilities: Tensor, ms: Tensor, fallback: int) -> float:
    """The confidence below which it pays to take the fallback; the smallest of equals."""
    costs = []
    for threshold in _THRESHOLDS:
        picked = choices(probabilities, float(threshold), fallback)
        costs.append(float(ms.gather(1, picked[:, None]).mean()))
    return float(_THRESHOLDS[int(np.argmin(costs))])


def choices(probabilities: Tensor, threshold: float, fallback: int) -> Tensor:
    """[n, D] -> [n]: the draft that serves."""
    sure, best = probabilities.max(-1)
    return torch.where(sure >= threshold, best, fallback)


def calibration(probabilities: Tensor, ms: Tensor, bins: int = 5) -> list[dict[str, float]]:
    """How often the likeliest draft is the fastest, by how sure the router is: bins of equal numbers of prompts."""
    sure, best = probabilities.max(-1)
    right = (best == ms.argmin(-1)).float()
    order = sure.argsort()
    found = []
    for rows in order.tensor_split(min(bins, len(order))):
        found.append({"prompts": len(rows), "confidence": float(sure[rows].mean()), "right": float(right[rows].mean())})
    return found


def _batches(part: Part, settings: TrainConfig, *, shuffle: bool) -> DataLoader:
    generator = torch.Generator().manual_seed(settings.seed)
    return DataLoader(TensorDataset(part.features, part.ms), settings.batch, shuffle=shuffle, generator=generator)
