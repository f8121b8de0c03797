"""Throughput of distillation, ours beside TRL's: `python -m eval.distill_bench RECIPE [key=value ...]`.

Both train the recipe's student on the same texts in the same batches, teacher's forwards included, in turns; the time
is that of the updates alone. Ours runs as a recipe would: `fit` on the learner of train/distill.py. TRL's runs on
models as transformers loads them. The figure is the median over the repeats of tokens, prompts included, a second.
"""

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from toolkit import config, hub
from toolkit.errors import UserError
from toolkit.evaluation import system
from toolkit.files import write_json
from toolkit.loading import ModelConfig, identify
from toolkit.training import distill, features, processes, texts, trl_distill
from toolkit.training.distill import DistillRecipe
from toolkit.training.distill_learner import DistillLearner, OnPolicyConfig
from toolkit.training.features import FeaturesConfig, Teacher
from toolkit.training.fit import FitConfig, Plan, fit
from toolkit.training.losses import LossConfig
from toolkit.training.student import Student
from toolkit.training.texts import Text, Texts, TextsConfig


@dataclass
class BenchRecipe:
    target: ModelConfig
    student: ModelConfig
    data: TextsConfig
    loss: str = "forward_kl"  # | reverse_kl: those that both have
    batch: int = 8
    updates: int = 12  # of a pass
    repeats: int = 3  # passes of each that are counted; one of each comes first, to warm up
    lr: float = 1e-4
    threads: int | None = None
    out: str = "results/distill_bench.json"
    frozen: list[str] = field(default_factory=list)  # as in a recipe of train/distill.py; empty: everything is trained


def main(argv: Sequence[str] | None = None) -> int:
    """The command line -> exit code."""
    does = "Time distillation beside TRL's."
    return config.program("eval.distill_bench", does, argv, _load_and_run, "repeats=5")


def _load_and_run(path: str, overrides: list[str]) -> None:
    recipe = config.load(BenchRecipe, path, overrides)
    rules = [
        ("loss", recipe.loss, recipe.loss in trl_distill.BETAS, f"one of {', '.join(trl_distill.BETAS)}"),
        ("batch", recipe.batch, recipe.batch >= 1, "1 or more"),
        ("updates", recipe.updates, recipe.updates >= 1, "1 or more"),
        ("repeats", recipe.repeats, recipe.repeats >= 1, "1 or more"),
    ]
    config.require(path, rules)
    run(recipe, path)


def run(recipe: BenchRecipe, where: str) -> dict[str, Any]:
    """Time both, write `recipe.out`, print the ratio -> what was written."""
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    processes.joined()
    loaded = texts.load(recipe.data, identify(recipe.target), where)
    settings = FitConfig(
        epochs=1, lr=recipe.lr, schedule="constant", warmup=0.0, batch=recipe.batch, eval_every=recipe.updates + 1
    )
    chosen = _chosen(loaded, recipe, where)
    teacher = features.teacher(processes.placed(recipe.target, None), FeaturesConfig())
    students = [distill.student(_distillation(recipe), teacher, [], where) for _ in range(2)]
    sides = {
        "ours": _Ours(students[0], teacher, loaded.valid[:1], settings, recipe.loss),
        "trl": _Theirs(students[1], recipe.target, settings, recipe.loss),
    }
    counted = sum(len(text.tokens) for text in chosen)
    answers = sum(len(text.answer) for text in chosen)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(recipe.repeats + 1):
        order = list(sides) if repeat % 2 else list(reversed(sides))
        for name in order:
            taken = sides[name].train(chosen)
            if repeat:
                seconds[name].append(taken)
            print(f"{'pass ' + str(repeat) if repeat else 'warm-up'}, {name}: {counted / taken:.0f} tokens/s")
    speed = {name: statistics.median(counted / one for one in taken) for name, taken in seconds.items()}
    result = {
        "recipe": asdict(recipe),
        "system": system.metadata(),
        "data": loaded.describe()["fingerprint"],
        "tokens_a_pass": counted,
        "answer_tokens_a_pass": answers,
        "seconds": {name: [round(one, 4) for one in taken] for name, taken in seconds.items()},
        "tokens_per_s": {name: round(one, 2) for name, one in speed.items()},
        "ratio": round(speed["ours"] / speed["trl"], 4),
    }
    Path(recipe.out).parent.mkdir(parents=True, exist_ok=True)
    write_json(Path(recipe.out), result)
    print(f"ours {speed['ours']:.0f} tokens/s, TRL {speed['trl']:.0f}: {result['ratio']:.2f}x; written: {recipe.out}")
    return result


def _chosen(loaded: Texts, recipe: BenchRecipe, where: str) -> list[Text]:
    """The texts of a pass."""
    count = recipe.updates * recipe.batch
    if len(loaded.train) < count:
        raise UserError(
            f"{where}: keys 'updates' and 'batch': {recipe.updates} batches of {recipe.batch} need {count} texts, and "
            f"the data has {len(loaded.train)}. Lower them, or collect more answers."
        )
    return list(loaded.train[:count])


class _Ours:
    """`fit` on the learner of a distillation recipe."""

    def __init__(
        self, student: Student, teacher: Teacher, valid: Sequence[Text], settings: FitConfig, loss: str
    ) -> None:
        self._learner = DistillLearner(student, teacher, LossConfig(loss), 1, OnPolicyConfig(), settings.seed)
        self._valid, self._settings = valid, settings
        self._accelerator = Accelerator(
            mixed_precision="bf16" if processes.on_gpu() else "no", cpu=not processes.on_gpu()
        )

    def train(self, chosen: Sequence[Text]) -> float:
        """Seconds of the updates of one pass."""
        with tempfile.TemporaryDirectory() as work:
            fitted = fit(self._learner, Texts(chosen, self._valid), self._settings, Path(work), self._accelerator)
        return sum(len(text.answer) for text in chosen) / fitted.figures["answer_tokens_per_s"]


class _Theirs:
    """TRL's trainer on the same pair, loaded as any model is."""

    def __init__(self, student: Student, target: ModelConfig, settings: FitConfig, loss: str) -> None:
        self._teacher, self._tokenizer = hub.load_hf(processes.placed(target, None))
        self._student, self._settings, self._loss = student.model, settings, loss

    def train(self, chosen: Sequence[Text]) -> float:
        """Seconds of the updates of one pass, over the batches that ours takes."""
        plan, lengths = Plan(len(chosen), self._settings, processes=1), [len(text.tokens) for text in chosen]
        ordered = [chosen[i] for step in range(plan.steps) for i in plan.batch(step, lengths)]
        with tempfile.TemporaryDirectory() as work:
            return trl_distill.run(
                self._student, self._teacher, self._tokenizer, ordered, self._settings, self._loss, Path(work)
            )


def _distillation(recipe: BenchRecipe) -> DistillRecipe:
    """The recipe of train/distill.py that the bench times."""
    return DistillRecipe(recipe.target, recipe.data, student=recipe.student, frozen=recipe.frozen)
