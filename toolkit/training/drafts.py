"""The course of every training on target answers: texts, teacher, draft, run, artifact.

What differs between an EAGLE-3 head and a distilled model is in a `Draft`: its learner, the target layers it reads,
and how it is stored. The run's checkpoints live beside OUT, in `.runs`, as those of a LoRA do.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import nn

from toolkit import config, sources
from toolkit.artifact import Manifest
from toolkit.binding import Identity
from toolkit.errors import UserError
from toolkit.loading import ModelConfig, identify
from toolkit.training import features, finish, fit, processes, rundir, texts
from toolkit.training.features import FeaturesConfig, Teacher
from toolkit.training.fit import FitConfig
from toolkit.training.recipe import run_rules
from toolkit.training.texts import Texts, TextsConfig


@dataclass
class DraftRecipe:
    """What every recipe of a draft has."""

    target: ModelConfig
    data: TextsConfig
    method: str  # for the card: how this was trained, in words
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    train: FitConfig = field(default_factory=FitConfig)
    licence: str = ""  # SPDX id of the target's licence, for the card
    out: str | None = None  # null: checkpoints/<name of the recipe's file>


class Draft(Protocol):
    """What is trained."""

    kind: str  # of the artifact
    provides: list[str]
    base: dict[str, Any]  # the manifest's
    shares: Sequence[str]  # modules that are the target's, and are not stored
    learner: nn.Module  # a `fit.Learner`
    layers: Sequence[int]  # the target's states that the learner reads

    def write(self, directory: Path) -> None:
        """The learner's parameters in their native format."""


Build = Callable[[Teacher, Texts], Draft]


def run(
    recipe: DraftRecipe,
    command: dict[str, Any],
    build: Build,
    binds: dict[str, Identity] | None = None,
    read: Callable[[], Texts] | None = None,
) -> Path:
    """Train what `build` makes, keep the best by tau, write and try the artifact -> its directory.

    binds: what the artifact is bound to, by default its target. read: what is trained on, by default `recipe.data`.
    """
    state = processes.joined()
    out, where = Path(recipe.out), command["path"]
    if finish.finished(out, recipe):
        _say(state.is_main_process, f"{out} is there already; delete it to train again")
        return out
    logger = rundir.logger(recipe.train.logger, out)
    accelerator = Accelerator(
        mixed_precision="bf16" if processes.on_gpu() else "no",
        gradient_accumulation_steps=1,  # fit.py accumulates itself
        log_with=logger or None,
        project_dir=str(rundir.LOGS / out.name),
        cpu=not processes.on_gpu(),
    )
    fit.refuse_sharding(accelerator)
    if logger:
        accelerator.init_trackers("draftsmith", config={"recipe": str(where)})
    _check_device(recipe.target, accelerator, where)
    with state.main_process_first():  # a model that has to be fetched or converted is so once
        bound = binds or {"target": identify(recipe.target)}
        loaded = read() if read else texts.load(recipe.data, bound["target"], where)
        described = loaded.describe()
        identity = {"recipe": asdict(recipe), "data": described["fingerprint"], "on": bound}
        work = rundir.open_run(out, identity | {"processes": state.num_processes}, where)
        teacher = features.teacher(processes.placed(recipe.target, None), recipe.features)
    _say(
        state.is_main_process,
        f"{len(loaded.train)} texts ({described['tokens']} tokens, {described['answer_tokens']} of them answers), "
        f"{len(loaded.valid)} held out; dropped: {described['dropped'] or 'none'}; {state.num_processes} process(es)",
    )
    torch.manual_seed(recipe.train.seed)  # every process begins with the same weights
    draft = build(teacher, loaded)
    with rundir.alone(work, state.is_main_process):
        if teacher.kept is not None:
            teacher.kept.fill([*loaded.train, *loaded.valid], draft.layers, accelerator)
        fitted = fit.fit(draft.learner, loaded, recipe.train, work, accelerator)
        if state.is_main_process:
            _finish(recipe, command, draft, loaded, bound, fitted)
            rundir.close(work)
    state.wait_for_everyone()
    accelerator.end_training()  # loggers too; no process waits for another after this
    return out


def _finish(
    recipe: DraftRecipe,
    command: dict[str, Any],
    draft: Draft,
    loaded: Texts,
    bound: dict[str, Identity],
    fitted: fit.Fitted,
) -> Manifest:
    best = load_file(fitted.best)
    with torch.no_grad():
        for name, parameter in draft.learner.named_parameters():
            if name in best:
                parameter.copy_(best[name])
    figures = {"data": loaded.describe(), "training": fitted.figures}
    manifest = finish.described(
        recipe, command, draft.kind, draft.provides, draft.base, bound, figures, sorted(draft.shares)
    )
    prompts = [text.prompt for text in loaded.valid]
    return finish.place(manifest, Path(recipe.out), draft.write, prompts)


def _check_device(target: ModelConfig, accelerator: Accelerator, where: Path | str) -> None:
    """The teacher has to be where this process trains."""
    given = target.device
    if given != "auto" and torch.device(given).type != accelerator.device.type:
        raise UserError(
            f"{where}: key 'target.device' is '{given}'; this process trains on {accelerator.device}. Set it to auto."
        )


def check(recipe: DraftRecipe, where: Path | str) -> None:
    """Refuse values that cannot be meant. UserError names the key."""
    data, train = recipe.data, recipe.train
    rules = [  # key, value, whether it will do, what was expected
        ("data.valid_limit", data.valid_limit, data.valid_limit >= 1, "1 or more"),
        ("train.betas", train.betas, len(train.betas) == 2, "two numbers"),
        ("train.clip", train.clip, train.clip > 0, "above 0"),
    ]
    config.require(where, [*rules, *run_rules(data, train)])


def _say(first: bool, message: str) -> None:
    if first:
        sources.say(message)
