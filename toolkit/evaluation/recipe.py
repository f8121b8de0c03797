"""An eval recipe: target, task, sampling, methods, and how much of the two sets to run.

Plain autoregression (`baseline`) always runs first, whether the recipe lists it or not: without it there is nothing
to compare with.
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolkit import artifact, config, methods
from toolkit.artifact import Manifest
from toolkit.engine.types import Sampling
from toolkit.errors import UserError
from toolkit.evaluation import grid, timed
from toolkit.evaluation.grid import Cell
from toolkit.evaluation.score import BASELINE
from toolkit.hub import ModelConfig
from toolkit.methods import MethodConfig
from toolkit.nets import router as routers


@dataclass
class SamplingConfig:
    """How tokens are drawn and when a text ends: one for all methods."""

    temperature: float = 0.0  # 0 = greedy
    top_k: int = 0  # 0 = off
    top_p: float = 1.0  # 1 = off
    max_new_tokens: int = 256
    stop: list[str] = field(default_factory=list)

    def seeded(self, seed: int) -> Sampling:
        return Sampling(self.temperature, self.top_k, self.top_p, self.max_new_tokens, seed, tuple(self.stop))


@dataclass
class QualityConfig:
    """Accuracy: batched, never timed; of the baseline and lossy methods, as exact ones have the baseline's."""

    enabled: bool = True
    batch: int = 16
    prompts: int | None = None  # the first so many of the task's problems; null: all
    exact: bool = False  # of exact methods, too: to see what they are promised to be


@dataclass
class SpeedConfig:
    """Tokens a second, tau and acceptance: the first `prompts` problems, method after method on each batch."""

    prompts: int = 24  # 0: no speed set
    methods: Any = timed.ALL  # front: those that the quality set says are worth it (see timed.py); or a list of names
    batch: int = 1
    max_new_tokens: int | None = None  # end timed texts earlier than sampling.max_new_tokens does
    repeats: int = 1  # more draws (or, at temperature 0, more timings) of each prompt and seed


@dataclass
class EvalRecipe:
    target: ModelConfig
    task: Any  # a piece: its name, or a mapping with its type and options
    use: list[str] = field(default_factory=list)  # artifacts: LoRA adapters that the target takes in, a router
    methods: list[Any] = field(default_factory=list)  # names of recipes/eval/methods, or mappings: name, pieces, grid
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    seeds: list[int] = field(default_factory=lambda: [0])
    chat_template: bool = True
    thinking: bool = False  # for chat templates that know thinking aloud
    quality: QualityConfig = field(default_factory=QualityConfig)
    speed: SpeedConfig = field(default_factory=SpeedConfig)
    out: str | None = None  # null: results/<name of the recipe's file>
    threads: int | None = None  # CPU threads; null: as torch finds them


def load(path: Path | str, overrides: list[str]) -> EvalRecipe:
    """The recipe with overrides applied, its values checked. UserError says what is wrong with it."""
    recipe = config.load(EvalRecipe, path, overrides)
    _check(recipe, path)
    return recipe


def composed(tree: dict[str, Any], overrides: list[str], where: str) -> EvalRecipe:
    """As `load`, from plain data: a recipe that no file holds yet."""
    recipe = config.changed(EvalRecipe, tree, overrides)
    _check(recipe, where)
    return recipe


def with_artifacts(recipe: EvalRecipe, where: Path | str) -> EvalRecipe:
    """The recipe with the artifacts of `use` in it: those of a target among its adapters, a router among its methods.

    A router brings `routed` along and, for its report, `only_NAME` of each of its drafts; of several routers each has
    the name of its directory behind these.
    """
    adapters, chosen, routing = [*recipe.target.adapters], [*recipe.methods], []
    for name in recipe.use:
        manifest = artifact.read(Path(name).expanduser())
        if manifest.kind == "lora" and "target" in manifest.provides:
            adapters.append(name)
            continue
        if manifest.kind == routers.KIND:
            routing.append((name, manifest))
            continue
        slots = ", ".join(manifest.provides)
        ways = {
            "draft": f"a draft goes into a method: proposer: {{type: draft_model, model: {name}}}",
            "proposer": f"a head goes into a method: proposer: {{type: {manifest.kind}, head: {name}}}",
            "target": f"a whole model is named itself: target: {name}",
        }
        how = "; ".join(ways[slot] for slot in manifest.provides if slot in ways)
        raise UserError(
            f"{where}: key 'use': {name} is of kind '{manifest.kind}' and provides: {slots or 'nothing'}. Expected a "
            f"LoRA that provides target{'; ' + how if how else ''}. A router goes here, too."
        )
    for (name, manifest), behind in zip(routing, _told_apart([name for name, _ in routing], where), strict=True):
        chosen += _routed(name, manifest, behind)
    target = dataclasses.replace(recipe.target, adapters=adapters)
    return dataclasses.replace(recipe, target=target, methods=chosen)


def _told_apart(routing: list[str], where: Path | str) -> list[str]:
    """Directories of routers -> what stands behind the names of their methods: nothing of a single one."""
    if len(routing) < 2:
        return [""] * len(routing)
    behind = [f"_{Path(one).expanduser().resolve().name}" for one in routing]
    for number, one in enumerate(routing):
        if behind[number] in behind[:number]:
            twin = routing[behind.index(behind[number])]
            raise UserError(
                f"{where}: key 'use': routers {twin} and {one}: methods are named after their directories; rename one "
                "of them."
            )
    return behind


def _routed(name: str, manifest: Manifest, behind: str) -> list[dict[str, Any]]:
    """The methods of a router: itself, and each of its drafts alone. behind: the end of their names."""
    pieces = manifest.pieces(name)
    methods = [{"name": f"routed{behind}", **pieces}]
    for draft in routers.read(Path(name).expanduser()).drafts:
        alone = pieces["proposer"] | {"router": {"type": "fixed", "draft": draft.name}}
        methods.append({"name": f"only_{draft.name}{behind}", **pieces, "proposer": alone})
    return methods


def contenders(recipe: EvalRecipe, where: Path | str) -> dict[str, tuple[MethodConfig, Cell]]:
    """By name the baseline and the recipe's methods, grids written out, resolved, in order; no name stands for two."""
    chosen = {BASELINE: (methods.resolve(BASELINE, where), Cell(BASELINE))}
    for cell in (cell for node in recipe.methods if node != BASELINE for cell in grid.expand(node, where)):
        method = methods.resolve(cell.node, where)
        if method.name in chosen:
            raise UserError(f"{where}: key 'methods': '{method.name}' is there twice; give one another name.")
        chosen[method.name] = (method, cell)
    timed.check(recipe.speed.methods, {name: cell for name, (_, cell) in chosen.items()}, where)
    return chosen


def _check(recipe: EvalRecipe, where: Path | str) -> None:
    quality, speed, seeds = recipe.quality, recipe.speed, recipe.seeds
    try:
        recipe.sampling.seeded(0).check()
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    rules = [  # key, value, whether it will do, what was expected
        ("seeds", seeds, seeds and len(set(seeds)) == len(seeds), "one seed or more, all different"),
        ("quality.batch", quality.batch, quality.batch >= 1, "1 or more"),
        (
            "quality.prompts",
            quality.prompts,
            quality.prompts is None or quality.prompts >= 1,
            "null (all), or 1 or more",
        ),
        ("speed.batch", speed.batch, speed.batch >= 1, "1 or more"),
        ("speed.prompts", speed.prompts, speed.prompts >= 0, "0 (no speed set) or more"),
        ("speed.prompts", speed.prompts, speed.prompts or quality.enabled, "1 or more, as quality.enabled is false"),
        (
            "speed.max_new_tokens",
            speed.max_new_tokens,
            speed.max_new_tokens is None or speed.max_new_tokens >= 1,
            "null, or 1 or more",
        ),
        (
            "speed.methods",
            speed.methods,
            speed.methods != timed.FRONT or quality.enabled,
            "all or a list of names, as quality.enabled is false and the front is of the quality set",
        ),
        ("speed.repeats", speed.repeats, speed.repeats >= 1, "1 or more"),
        (
            "threads",
            recipe.threads,
            recipe.threads is None or recipe.threads >= 1,
            "null (torch's choice), or 1 or more",
        ),
    ]
    config.require(where, rules)
