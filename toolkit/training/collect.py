"""`train/collect.py`: what a target says to training prompts, recorded for those who learn from it.

The rows hold the token ids of prompt and answer, so a draft is trained on exactly what its target decoded. Greedy and
sampled answers go into files of their own (answers.temperature, answers.path).
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from toolkit import config
from toolkit.errors import UserError
from toolkit.hub import ModelConfig
from toolkit.training import answers
from toolkit.training.answers import AnswersConfig
from toolkit.training.gates import Figures, Gates
from toolkit.training.recipe import DataConfig


@dataclass
class CollectRecipe:
    target: ModelConfig
    data: DataConfig  # tasks: the prompts
    answers: AnswersConfig = field(default_factory=lambda: AnswersConfig("", gates=Gates(marked=0.0)))


def load(path: Path | str, overrides: list[str]) -> CollectRecipe:
    """The recipe with overrides applied. UserError says what is wrong with it."""
    recipe = config.load(CollectRecipe, path, overrides)
    if not recipe.data.tasks:
        raise UserError(f"{path}: key 'data.tasks' is empty; expected one task or more, which ask the questions.")
    if recipe.data.responses is not None:
        raise UserError(f"{path}: key 'data.responses' has no use here: the answers are what is to be collected.")
    name = recipe.answers.path or f"results/answers/{Path(path).stem}.jsonl"
    return dataclasses.replace(recipe, answers=dataclasses.replace(recipe.answers, path=name))


def run(recipe: CollectRecipe, where: Path | str) -> Figures:
    """Collect what is missing; a run that was stopped goes on where it was."""
    return answers.run(recipe.target, recipe.data, recipe.answers, where)
