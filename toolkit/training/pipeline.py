"""Target, its answers, draft: three stages from one recipe, each of which can also be run alone.

1. `target`: a LoRA recipe, trained on worked answers. 2. `answers`: that target answers the same training prompts, and
gates judge what it says. 3. `draft`: a LoRA recipe that trains a draft on these answers, because a draft should say
what its target says, not what a data set says. A stage that is done is not done again.
"""

from dataclasses import dataclass
from pathlib import Path

from toolkit import config, sources
from toolkit.errors import UserError
from toolkit.training import answers, lora, processes, recipe
from toolkit.training.answers import AnswersConfig
from toolkit.training.recipe import LoraRecipe


@dataclass
class PipelineRecipe:
    target: str  # the LoRA recipe of stage 1
    draft: str  # the LoRA recipe of stage 3: its target has stage 1's `out` as adapter, its data stage 2's answers
    answers: AnswersConfig


def load(path: Path | str, overrides: list[str]) -> PipelineRecipe:
    """The recipe with overrides applied. UserError says what is wrong with it."""
    return config.load(PipelineRecipe, path, overrides)


def run(chain: PipelineRecipe, where: Path | str) -> None:
    """All three stages. UserError before the first where they do not fit together."""
    target, draft = recipe.load(chain.target, []), recipe.load(chain.draft, [])
    _check(chain, target, draft, where)
    state = processes.joined()

    def stage(title: str) -> None:
        if state.is_main_process:
            sources.say(title)

    stage(f"stage 1 of 3: target, {chain.target}")
    lora.run(target, recipe.command(chain.target, []))
    stage(f"stage 2 of 3: its answers to its training prompts, {chain.answers.path}")
    answers.run(draft.target, target.data, chain.answers, where)
    stage(f"stage 3 of 3: draft, {chain.draft}")
    lora.run(draft, recipe.command(chain.draft, []))


def _check(chain: PipelineRecipe, target: LoraRecipe, draft: LoraRecipe, where: Path | str) -> None:
    if draft.target is None or (draft.target.name, draft.target.adapters[-1:]) != (target.model.name, [target.out]):
        raise UserError(
            f"{where}: key 'draft': {chain.draft} must be the draft of what {chain.target} trains: expected "
            f"target: {{name: {target.model.name}, adapters: [{target.out}]}}."
        )
    if (draft.data.tasks, draft.data.thinking) != (target.data.tasks, target.data.thinking):
        raise UserError(
            f"{where}: {chain.target} and {chain.draft} differ in data.tasks or data.thinking; a draft learns its "
            "target's answers to the prompts that the target learned."
        )
    if draft.data.responses != chain.answers.path:
        raise UserError(
            f"{where}: key 'answers.path' is '{chain.answers.path}'; {chain.draft} reads data.responses "
            f"'{draft.data.responses}'. They must be the same file."
        )
