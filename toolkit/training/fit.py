"""The training loop of everything that is trained on texts: Accelerate, AdamW, and checkpoints that a kill cannot hurt.

All randomness is a function of (seed, step), so a checkpoint is the trained tensors, the optimizer's and a few numbers
(safetensors and JSON), and a run that goes on from one comes to the same weights. Losses are means over the tokens of a
step, whatever the number of processes. The best weights by tau on held-out texts are kept.
"""

import json
import math
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from toolkit import artifact, sources
from toolkit.errors import UserError
from toolkit.files import write_json
from toolkit.training.texts import Text, Texts
from toolkit.training.walk import Walk, total

_WEIGHTS, _MOMENTS, _PROGRESS = "weights.safetensors", "optimizer.safetensors", "progress.json"
_BUCKET = 16  # batches that are sorted by length together: little padding, and yet a shuffle


@dataclass
class FitConfig:
    """The run. Steps count optimizer updates."""

    epochs: float = 3.0
    lr: float = 5e-4
    schedule: str = "cosine"  # constant | linear | cosine; the last two end at a tenth of lr
    warmup: float = 0.03  # share of the steps
    batch: int = 8  # texts a device and forward
    accumulate: int = 1  # forwards an update
    weight_decay: float = 0.0
    betas: list[float] = field(default_factory=lambda: [0.9, 0.95])
    clip: float = 1.0
    eval_every: int = 100  # steps; a checkpoint is written at the same steps
    logger: str = "none"  # none | tensorboard | trackio | wandb
    seed: int = 42


class Learner(Protocol):
    """A module whose forward is a loss: called on [Text, ...], it gives (sum over answer tokens, metrics to show).

    Its parameters that require a gradient are what is trained and stored.
    """

    k: int  # depth of the walk

    def __call__(self, texts: Sequence[Text]) -> tuple[Tensor, dict[str, Tensor]]: ...

    def walks(self, texts: Sequence[Text]) -> list[Walk]: ...


@dataclass
class Fitted:
    """What came of a run."""

    best: Path  # trained tensors by name
    figures: dict[str, Any]  # for the manifest


@dataclass
class _Progress:
    """What a checkpoint says beside its tensors."""

    step: int = 0
    best_step: int = 0
    best_tau: float = -1.0
    seconds: float = 0.0  # spent in training steps, over all sittings
    tokens: int = 0  # answer tokens trained on
    curve: list[dict[str, Any]] = field(default_factory=list)  # of each evaluation


def fit(learner: nn.Module, texts: Texts, settings: FitConfig, work: Path, accelerator: Accelerator) -> Fitted:
    """Train to the end, from the last whole checkpoint in `work` if there is one.

    Raises UserError where the loss is no longer a number, and where a checkpoint cannot be written.
    """
    refuse_sharding(accelerator)
    plan = Plan(len(texts.train), settings, accelerator.num_processes)
    if len(texts.train) < plan.size:
        raise UserError(
            f"{len(texts.train)} texts to train on, and a step takes {plan.size} (train.batch x train.accumulate x "
            "processes): lower them, or collect more answers."
        )
    trained = {name: p for name, p in learner.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(
        trained.values(), lr=settings.lr, betas=tuple(settings.betas), weight_decay=settings.weight_decay
    )
    progress = _resume(work, trained, optimizer)
    if progress.step:
        _say(accelerator, f"going on from step {progress.step} of {plan.steps}")
    model = accelerator.prepare(learner)  # not the optimizer: this loop steps and saves it itself
    lengths = [len(text.tokens) for text in texts.train]
    if not progress.curve:
        _evaluate(learner, texts.valid, progress, accelerator)
    shown = time.monotonic()
    while progress.step < plan.steps:
        begun = time.monotonic()
        chosen = plan.batch(progress.step, lengths)
        loss, metrics = _step(model, [texts.train[i] for i in chosen], optimizer, plan, settings, progress, accelerator)
        progress.step += 1
        progress.seconds += time.monotonic() - begun
        progress.tokens += sum(len(texts.train[i].answer) for i in chosen)
        if time.monotonic() - shown > 15 or progress.step == plan.steps:
            shown = time.monotonic()
            _say(accelerator, _line(progress, plan, loss, metrics))
            accelerator.log({"loss": loss, "lr": plan.rate(progress.step - 1)} | metrics, step=progress.step)
        if progress.step % settings.eval_every == 0 or progress.step == plan.steps:
            _evaluate(learner, texts.valid, progress, accelerator)
            if accelerator.is_main_process:
                _save(work, trained, optimizer, progress)
            accelerator.wait_for_everyone()
    return Fitted(work / _name(progress.best_step) / _WEIGHTS, _figures(progress, accelerator))


def refuse_sharding(accelerator: Accelerator) -> None:
    """Drafts are small: every process holds one whole, and its optimizer."""
    kind = accelerator.distributed_type.value
    if kind not in ("NO", "MULTI_GPU", "MULTI_CPU"):
        raise UserError(
            f"this training runs on one device or data-parallel on several, not under {kind}: a draft and its "
            "optimizer fit on each device. Launch with accelerate_configs/ddp.yaml, single_gpu.yaml or cpu.yaml."
        )


class Plan:
    """Which texts a step trains on: a function of the seed and the step alone."""

    def __init__(self, texts: int, settings: FitConfig, processes: int) -> None:
        self.size = settings.batch * settings.accumulate * processes  # texts a step, over all processes
        self.per_epoch = max(1, texts // self.size)  # what is left over waits for another epoch's shuffle
        self.steps = max(1, round(settings.epochs * self.per_epoch))
        self._texts, self._settings = texts, settings
        self._epochs: dict[int, list[list[int]]] = {}

    def batch(self, step: int, lengths: Sequence[int]) -> list[int]:
        """Indices of all processes' texts."""
        epoch, at = divmod(step, self.per_epoch)
        if epoch not in self._epochs:
            self._epochs = {epoch: self._shuffled(epoch, lengths)}
        return self._epochs[epoch][at]

    def _shuffled(self, epoch: int, lengths: Sequence[int]) -> list[list[int]]:
        rng = random.Random(f"{self._settings.seed} {epoch}")
        order = rng.sample(range(self._texts), self._texts)
        bucket = _BUCKET * self.size
        batches = []
        for start in range(0, len(order), bucket):
            near = sorted(order[start : start + bucket], key=lambda i: lengths[i])
            batches += [near[at : at + self.size] for at in range(0, len(near), self.size)]
        whole = [batch for batch in batches if len(batch) == self.size]
        rng.shuffle(whole)
        return whole

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        warm = max(1, round(self._settings.warmup * self.steps))
        if step < warm:
            return self._settings.lr * (step + 1) / warm
        done = (step - warm) / max(1, self.steps - warm)
        shape = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}
        return self._settings.lr * (0.1 + 0.9 * shape[self._settings.schedule])


def _step(
    model: nn.Module,
    texts: Sequence[Text],
    optimizer: torch.optim.Optimizer,
    plan: Plan,
    settings: FitConfig,
    progress: _Progress,
    accelerator: Accelerator,
) -> tuple[float, dict[str, float]]:
    """One update -> the loss a token and the metrics a token, over all processes."""
    for group in optimizer.param_groups:
        group["lr"] = plan.rate(progress.step)
    count = sum(len(text.answer) for text in texts)  # of all processes: known to each without asking
    own = list(texts[accelerator.process_index :: accelerator.num_processes])
    parts = list(_chunks(own, settings.batch))
    optimizer.zero_grad(set_to_none=True)
    sums: dict[str, Tensor] = {}
    for number, part in enumerate(parts, start=1):
        quiet = number < len(parts) and accelerator.num_processes > 1
        with accelerator.no_sync(model) if quiet else nullcontext():
            loss, metrics = model(part)
            # gradients are averaged over processes, and the mean wanted is over tokens
            accelerator.backward(loss * (accelerator.num_processes / count))
        for name, value in {"loss": loss.detach(), **metrics}.items():
            sums[name] = sums.get(name, 0.0) + value
    means = (accelerator.reduce(torch.stack([sums[name] for name in sorted(sums)]), "sum") / count).tolist()
    figures = dict(zip(sorted(sums), means, strict=True))
    loss = figures.pop("loss")
    norm = float(accelerator.clip_grad_norm_(model.parameters(), settings.clip))
    if not (math.isfinite(loss) and math.isfinite(norm)):  # before the step: weights and checkpoints stay numbers
        what = "loss" if not math.isfinite(loss) else "norm of the gradient"
        raise UserError(
            f"the {what} is {norm if math.isfinite(loss) else loss} at step {progress.step + 1}, on the texts "
            f"{', '.join(text.key for text in texts[:4])} and others. Earlier checkpoints are intact: lower train.lr "
            "or train.clip and set out=DIR for another run."
        )
    optimizer.step()
    return loss, figures


def _chunks(texts: Sequence[Text], size: int) -> Iterator[Sequence[Text]]:
    for start in range(0, len(texts), size):
        yield texts[start : start + size]


@torch.no_grad()
def _evaluate(learner: Learner, valid: Sequence[Text], progress: _Progress, accelerator: Accelerator) -> None:
    """Walk the held-out texts, each process its share; the best step so far is noted."""
    learner.eval()
    own = sorted(valid, key=lambda text: len(text.tokens))[accelerator.process_index :: accelerator.num_processes]
    with accelerator.autocast():
        walks = [one for part in _chunks(own, 8) for one in learner.walks(part)]
    learner.train()
    summed = Walk.of(accelerator.reduce(total(walks, learner.k).vector().to(accelerator.device), "sum"))
    progress.curve.append({"step": progress.step} | summed.figures())
    accelerator.log({"tau": summed.tau, "acceptance": summed.acceptance}, step=progress.step)
    if progress.step and summed.tau > progress.best_tau:
        progress.best_step, progress.best_tau = progress.step, summed.tau
    _say(
        accelerator,
        f"held out at step {progress.step}: tau {summed.tau:.3f} at k={learner.k}, accepted "
        f"{summed.acceptance:.1%}, by position {progress.curve[-1]['accepted_by_position']}",
    )


def _save(work: Path, trained: dict[str, Tensor], optimizer: torch.optim.Optimizer, progress: _Progress) -> None:
    """A whole checkpoint under its name; then all but the last and the best are dropped."""
    final = work / _name(progress.step)
    beside = artifact.partial(final)
    moments = {
        f"{kind}.{name}": state[kind]
        for name, parameter in trained.items()
        if (state := optimizer.state.get(parameter))
        for kind in ("exp_avg", "exp_avg_sq", "step")
    }
    if not all(parameter.isfinite().all() for parameter in trained.values()):
        raise UserError(
            f"weights are no numbers any more after step {progress.step}. Earlier checkpoints are intact: lower "
            "train.lr and set out=DIR for another run."
        )
    with artifact.writing(work):
        save_file({name: tensor.detach().contiguous().cpu() for name, tensor in trained.items()}, beside / _WEIGHTS)
        save_file({name: tensor.detach().contiguous().cpu() for name, tensor in moments.items()}, beside / _MOMENTS)
        write_json(beside / _PROGRESS, vars(progress))
    artifact.publish(beside, final)
    for old in work.glob("step-*"):
        if old.name not in (_name(progress.step), _name(progress.best_step)):
            shutil.rmtree(old)


def _name(step: int) -> str:
    return f"step-{step:07d}"


@torch.no_grad()
def _resume(work: Path, trained: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> _Progress:
    """Put the last checkpoint's tensors in place -> where it was; a new run's progress where there is none."""
    found = sorted(work.glob("step-*"))
    if not found:
        return _Progress()
    last = found[-1]
    weights, moments = load_file(last / _WEIGHTS), load_file(last / _MOMENTS)
    for name, parameter in trained.items():
        parameter.copy_(weights[name])
        if f"step.{name}" not in moments:  # no gradient has ever reached it
            continue
        optimizer.state[parameter] = {
            kind: moments[f"{kind}.{name}"].to("cpu" if kind == "step" else parameter.device)
            for kind in ("exp_avg", "exp_avg_sq", "step")
        }
    return _Progress(**json.loads((last / _PROGRESS).read_text()))


def _line(progress: _Progress, plan: Plan, loss: float, metrics: dict[str, float]) -> str:
    speed = progress.tokens / progress.seconds
    left = progress.seconds / progress.step * (plan.steps - progress.step)
    shown = "".join(f", {name} {value:.3f}" for name, value in sorted(metrics.items()))
    return f"step {progress.step}/{plan.steps}, loss {loss:.3f}{shown}, {speed:.0f} answer tokens/s, {left:.0f} s left"


def _figures(progress: _Progress, accelerator: Accelerator) -> dict[str, Any]:
    best = next(row for row in progress.curve if row["step"] == progress.best_step)
    return {
        "steps": progress.step,
        "best_step": progress.best_step,
        "best": best,
        "untrained": progress.curve[0],
        "seconds": round(progress.seconds, 1),
        "answer_tokens_per_s": round(progress.tokens / max(progress.seconds, 1e-9), 1),
        "world_size": accelerator.num_processes,
        "curve": progress.curve,
    }


def _say(accelerator: Accelerator, message: str) -> None:
    if accelerator.is_main_process:
        sources.say(message)
