"""A LoRA recipe: model, data, adapter, training run. Also the recipe of a draft: then it names its target.

`model` alone trains a target. With `target`, `model` is a draft for it, and may be made of it:
`target: {name: smollm2-135m, adapters: [DIR]}`, `model: {name: target, draft_from: {layers: [0, 29]}}`.
"""

import dataclasses
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from toolkit import config
from toolkit.hub import TARGET, ModelConfig

LOGGERS = ("none", "tensorboard", "trackio", "wandb")
SCHEDULES = ("constant", "linear", "cosine")


@dataclass
class DataConfig:
    """Tasks whose problems carry worked answers (split: train), or whose answers `responses` holds."""

    tasks: list[Any]  # task pieces: what they ask is the prompt, in their style
    responses: str | None = None  # a file of generated answers to these prompts, instead of the tasks' own
    max_length: int = 512  # tokens of prompt and answer; longer rows are dropped, and counted
    valid: float = 0.05  # share of the rows that is held out
    thinking: bool = False  # for chat templates that know thinking aloud


@dataclass
class LoraConfig:
    """The adapter (Hu et al. 2021, arXiv 2106.09685)."""

    rank: int = 16
    alpha: int = 32  # the update is scaled by alpha / rank
    dropout: float = 0.0
    targets: list[str] = field(
        default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )
    stored: Literal["float32", "bfloat16"] = "bfloat16"  # dtype of the file; training keeps float32


@dataclass
class TrainConfig:
    """The run. Steps count optimizer updates."""

    epochs: float = 3.0
    lr: float = 2e-4
    schedule: str = "cosine"  # constant | linear | cosine
    warmup: float = 0.03  # share of the steps
    batch: int = 8  # rows a device and forward
    accumulate: int = 1  # forwards an update
    weight_decay: float = 0.0
    clip: float = 1.0
    optimizer: str = "adamw_torch"  # any name transformers knows: adamw_8bit, ...
    packing: bool = False  # rows joined up to max_length; needs an attention that keeps them apart
    checkpointing: bool = False  # recompute activations: less memory, slower
    eval_every: int = 50  # steps; a checkpoint is written at the same steps, the best by held-out loss is kept
    logger: str = "none"  # none | tensorboard | trackio | wandb
    seed: int = 42


class RunData(Protocol):
    max_length: int
    valid: float


class Run(Protocol):
    epochs: float
    lr: float
    schedule: str
    warmup: float
    batch: int
    accumulate: int
    eval_every: int
    logger: str


@dataclass
class LoraRecipe:
    model: ModelConfig
    data: DataConfig
    target: ModelConfig | None = None  # a draft's target
    method: str = "LoRA SFT"  # for the card: how this was trained, in words
    lora: LoraConfig = field(default_factory=LoraConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    licence: str = ""  # SPDX id of the base model's licence, for the card
    out: str | None = None  # null: checkpoints/<name of the recipe's file>


def load(path: Path | str, overrides: list[str]) -> LoraRecipe:
    """The recipe with overrides applied, its values checked. UserError says what is wrong with it."""
    recipe = config.load(LoraRecipe, path, overrides)
    check(recipe, path)
    return dataclasses.replace(recipe, out=recipe.out or f"checkpoints/{Path(path).stem}")


def command(path: Path | str, overrides: list[str], program: str = "train/lora.py") -> dict[str, Any]:
    """How to run this again, for a manifest: a recipe's first line is the command that runs it."""
    first = config.find_recipe(path).read_text(encoding="utf-8").partition("\n")[0]
    said = first.removeprefix("#").strip()
    started = said if first.startswith("# accelerate launch") else f"accelerate launch {program} {path}"
    return {"path": str(path), "overrides": overrides, "command": " ".join([started, *map(shlex.quote, overrides)])}


def check(recipe: LoraRecipe, where: Path | str) -> None:
    """Refuse values that cannot be meant. UserError names the key."""
    data, lora, train = recipe.data, recipe.lora, recipe.train
    rules = [  # key, value, whether it will do, what was expected
        ("target", recipe.target, recipe.target or recipe.model.name != TARGET, "a model, as model.name is 'target'"),
        ("data.tasks", data.tasks, data.tasks, "one task or more"),
        ("lora.rank", lora.rank, lora.rank >= 1, "1 or more"),
        ("lora.alpha", lora.alpha, lora.alpha > 0, "above 0"),
        ("lora.dropout", lora.dropout, 0 <= lora.dropout < 1, "0 or more, below 1"),
        ("lora.targets", lora.targets, lora.targets, "one module name or more"),
    ]
    config.require(where, [*rules, *run_rules(data, train)])


def run_rules(data: RunData, train: Run) -> list[config.Rule]:
    """What holds for every training run, whatever is trained."""
    return [
        ("data.max_length", data.max_length, data.max_length >= 8, "8 or more"),
        ("data.valid", data.valid, 0 < data.valid < 1, "a share between 0 and 1: the best checkpoint is chosen by it"),
        ("train.epochs", train.epochs, train.epochs > 0, "above 0"),
        ("train.lr", train.lr, train.lr > 0, "above 0"),
        ("train.schedule", train.schedule, train.schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}"),
        ("train.warmup", train.warmup, 0 <= train.warmup < 1, "a share from 0 to 1"),
        ("train.batch", train.batch, train.batch >= 1, "1 or more"),
        ("train.accumulate", train.accumulate, train.accumulate >= 1, "1 or more"),
        ("train.eval_every", train.eval_every, train.eval_every >= 1, "1 or more"),
        ("train.logger", train.logger, train.logger in LOGGERS, f"one of {', '.join(LOGGERS)}"),
    ]
