"""`train/collect.py`: what a target says to training prompts, recorded for those who learn from it.

With `answers`: its texts. The rows hold the token ids of prompt and answer, so a draft is trained on exactly what its
target decoded. Greedy and sampled answers go into files of their own (answers.temperature, answers.path).
With `trace`: every token that a draft proposed on the way, for those who learn when to stop and what to accept.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from toolkit import config
from toolkit.errors import UserError
from toolkit.hub import ModelConfig
from toolkit.training import answers, tracing
from toolkit.training.answers import AnswersConfig
from toolkit.training.gates import Gates
from toolkit.training.recipe import DataConfig
from toolkit.training.tracing import TraceConfig


@dataclass
class CollectRecipe:
    target: ModelConfig
    data: DataConfig  # tasks: the prompts
    answers: AnswersConfig | None = None  # null, and no trace: as its defaults say
    trace: TraceConfig | None = None


def load(path: Path | str, overrides: list[str]) -> CollectRecipe:
    """The recipe with overrides applied. UserError says what is wrong with it."""
    recipe = config.load(CollectRecipe, path, overrides)
    if not recipe.data.tasks:
        raise UserError(f"{path}: key 'data.tasks' is empty; expected one task or more, which ask the questions.")
    if recipe.data.responses is not None:
        raise UserError(f"{path}: key 'data.responses' has no use here: the answers are what is to be collected.")
    if recipe.trace is not None:
        if recipe.answers is not None:
            raise UserError(
                f"{path}: has keys 'answers' and 'trace'; expected one of them, and a recipe for the other."
            )
        trace = dataclasses.replace(recipe.trace, path=recipe.trace.path or f"results/traces/{Path(path).stem}")
        tracing.check(trace, path)
        return dataclasses.replace(recipe, trace=trace)
    chosen = recipe.answers or AnswersConfig("", gates=Gates(marked=0.0))
    name = chosen.path or f"results/answers/{Path(path).stem}.jsonl"
    return dataclasses.replace(recipe, answers=dataclasses.replace(chosen, path=name))


def run(recipe: CollectRecipe, where: Path | str) -> None:
    """Collect what is missing; a run that was stopped goes on where it was."""
    if recipe.trace is not None:
        tracing.run(recipe.target, recipe.data, recipe.trace, where)
    else:
        answers.run(recipe.target, recipe.data, recipe.answers, where)
