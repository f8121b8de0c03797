"""`python -m eval DIR... [--task gsm8k] [key=value ...]`: checkpoint directories become ordinary recipes, and are run.

One recipe a target and task, with what `compositions` makes of the manifests. It is said before anything is decoded,
and written as `recipe.yaml` beside its results, as every recipe is: that file runs the same again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from toolkit import config, registry
from toolkit.errors import UserError
from toolkit.evaluation import compositions
from toolkit.evaluation import recipe as recipes
from toolkit.evaluation.compositions import Composition
from toolkit.evaluation.recipe import EvalRecipe, SamplingConfig
from toolkit.evaluation.score import BASELINE

TASK = "gsm8k"  # where none is said


@dataclass(frozen=True)
class Composed:
    """A recipe, under the name of its target and task."""

    name: str
    recipe: EvalRecipe
    left_out: Mapping[str, str]  # directory -> why it is in no method


@dataclass
class _Decoding:
    sampling: SamplingConfig = field(default_factory=SamplingConfig)


def check_named(words: Sequence[str], tasks: Sequence[str]) -> None:
    """One recipe, or directories: UserError where the words of a command that are no key=value name something else."""
    if not words:
        raise UserError("nothing to run is named. Expected one recipe, or directories of artifacts, before key=value.")
    files = [word for word in words if not Path(word).is_dir()]
    for word in files:
        if not config.is_recipe(word):
            raise UserError(f"{word}: no directory, no recipe and no key=value.{_nearest(word)}")
    if files and len(words) > 1:
        raise UserError(
            f"{files[0]}: a file among {len(words)} names. Expected one recipe, or directories of artifacts."
        )
    if files and len(tasks) > 1:
        raise UserError(f"{files[0]}: a recipe has one task; --task is there {len(tasks)} times. Run it once for each.")


def _nearest(word: str) -> str:
    """' Did you mean ...?': what is there, if one part of the path were called otherwise, and the recipes."""
    path = Path(word)
    lost = next(part for part in (*reversed(path.parents), path) if not part.exists())
    behind = path.relative_to(lost)
    there = [str(other / behind) for other in lost.parent.iterdir() if (other / behind).exists()]
    shipped = config.recipes_dir()
    recipes = [str("recipes" / found.relative_to(shipped)) for found in shipped.glob("eval/*.yaml")]
    return registry.nearest(word, [*there, *recipes])


def compose(directories: Sequence[str], tasks: Sequence[str], overrides: list[str]) -> list[Composed]:
    """The recipes, all of them checked. Overrides are of each; where there are several, `out` is what holds theirs."""
    drawn = config.changed(_Decoding, {}, [text for text in overrides if text.partition(".")[0] == "sampling"])
    found = compositions.of(directories, drawn.sampling.temperature)
    pairs = [(composition, task) for composition in found for task in tasks or [TASK]]
    composed = [_composed(composition, task, overrides, len(pairs) > 1) for composition, task in pairs]
    names = [one.name for one in composed]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(
            f"two of the recipes would be called '{twice[0]}'. Run one command for each, with its own out=DIR."
        )
    return composed


def described(composed: Sequence[Composed]) -> str:
    """What there is to be run, in words: a target's methods once, whatever the tasks."""
    lines = []
    for number, one in enumerate(composed):
        recipe = one.recipe
        lines.append(f"{one.name}: target {recipe.target.label}, task {_spelled(recipe.task)}, into {recipe.out}")
        if number == 0 or recipe.methods != composed[number - 1].recipe.methods:
            lines += [f"  {line}" for line in (BASELINE, *map(_method, recipe.methods))]
            lines += [f"  left out: {path}: {why}" for path, why in one.left_out.items()]
    return "\n".join(lines)


def _composed(composition: Composition, task: str, overrides: list[str], several: bool) -> Composed:
    tree = {"target": composition.target, "task": config.plain(task, "--task"), "methods": composition.methods}
    recipe = recipes.composed(tree, overrides, "composed recipe")
    chosen, _ = config.piece("tasks", recipe.task, "composed recipe: task")
    name = f"{composition.name}-{chosen.__name__.rpartition('.')[2]}"
    if several or recipe.out is None:
        recipe = replace(recipe, out=str(Path(recipe.out or "results") / name))
    recipes.contenders(recipe, name)
    return Composed(name, recipe, composition.left_out)


def _method(node: Any) -> str:
    if not isinstance(node, dict):
        return str(node)
    pieces = [f"{slot} {_spelled(piece)}" for slot, piece in node.items() if slot != "name"]
    return f"{node['name']}: {', '.join(pieces)}"


def _spelled(node: Any) -> str:
    """A piece, or a part of one, on a line, without the options that say nothing."""
    if not isinstance(node, dict):
        return str(node)
    if not node.keys() - {"name", *(key for key, value in node.items() if value in (None, [], "auto", "none"))}:
        return str(node["name"])
    options = [f"{key} {_spelled(value)}" for key, value in node.items() if key != "type" and value is not None]
    return f"{node.get('type', '')} ({', '.join(options)})".strip() if options else str(node["type"])
