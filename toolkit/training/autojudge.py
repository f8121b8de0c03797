"""`train/autojudge.py`: mine which of a draft's mismatches matter, then learn to tell them from the others.

Mining decodes, and is shared among all processes; learning is a matter of minutes for the first one, with no model
loaded. With `mined`, what was mined before is learned from; with `judge: null`, it is only mined.
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolkit import artifact, binding, config, sources
from toolkit.errors import UserError
from toolkit.hub import ModelConfig
from toolkit.nets import judge as judges
from toolkit.training import finish, from_traces, judge, mining, processes
from toolkit.training.judge import JudgeConfig
from toolkit.training.mined import HEADER, Mined, read_header
from toolkit.training.mining import MineConfig
from toolkit.training.recipe import DataConfig


@dataclass
class AutoJudgeRecipe:
    target: ModelConfig | None = None
    data: DataConfig = field(default_factory=lambda: DataConfig(tasks=[]))  # training tasks: what is mined
    mine: MineConfig | None = None
    mined: list[str] = field(default_factory=list)  # directories that were mined before, of the same target and draft
    judge: JudgeConfig | None = field(default_factory=JudgeConfig)
    method: str = "AutoJudge classifier on mined mismatches"
    licence: str = ""  # SPDX id of the base model's licence, for the card
    out: str | None = None  # null: checkpoints/<name of the recipe's file>


def load(path: Path | str, overrides: list[str]) -> AutoJudgeRecipe:
    """The recipe with overrides applied, its values checked. UserError says what is wrong with it."""
    recipe = config.load(AutoJudgeRecipe, path, overrides)
    mines = recipe.mine is not None
    config.require(
        path,
        [
            ("mine", None, mines or recipe.mined, "how to mine, or directories in `mined`"),
            ("target", recipe.target, recipe.target or not mines, "the model whose answers are mined"),
            ("data.tasks", recipe.data.tasks, recipe.data.tasks or not mines, "one training task or more"),
            *([] if recipe.judge is None else judge.rules(recipe.judge)),
            *(_kept(recipe.mine, recipe.judge) if mines and recipe.judge else []),
        ],
    )
    if mines:
        mining.check(recipe.mine, path)
    return dataclasses.replace(recipe, out=recipe.out or f"checkpoints/{Path(path).stem}")


def _kept(mine: MineConfig, settings: JudgeConfig) -> list[config.Rule]:
    """What the judge reads has to be kept while mining, which may take hours."""
    lacking = [name for name in mining.STATES if name in settings.features and name not in mine.hidden]
    return [
        ("mine.hidden", mine.hidden, not lacking, f"{', '.join(lacking)} among them, as judge.features asks for it")
    ]


def run(recipe: AutoJudgeRecipe, command: dict[str, Any]) -> Path | None:
    """Mine what is not there, learn, write and try the artifact -> its directory, if there is to be one."""
    state, out = processes.joined(), Path(recipe.out)
    learns = recipe.judge is not None
    if learns and _finished(recipe, command["path"]):
        sources.say(f"{out} is there already; delete it to train again")
        return out
    _check_target(recipe, command["path"])
    directories = [*recipe.mined]
    if recipe.mine is not None:
        directories.append(str(mining.run(recipe.target, recipe.data, recipe.mine, command["path"])))
    if learns and state.is_main_process:
        _learn(recipe, command, directories)
    state.wait_for_everyone()
    return out if learns else None


def _finished(recipe: AutoJudgeRecipe, where: str) -> bool:
    """Whether the artifact of this recipe is there. UserError where its rows, if they are still there, are others."""
    out = Path(recipe.out)
    if not finish.finished(out, recipe):
        return False
    directories = [Path(name).expanduser() for name in recipe.mined]
    if recipe.mine is not None:
        directories.append(mining.place(recipe.mine, where))
    there = all((directory / HEADER).is_file() for directory in directories)
    if there and artifact.read(out).data["fingerprint"] != Mined.open(directories).fingerprint():
        raise UserError(
            f"{out}: was learned from other mismatches than {', '.join(map(str, directories))} has now (key "
            f"'data.fingerprint' of {artifact.MANIFEST}). Delete {out} to learn from them, or set out=DIR."
        )
    return True


def _check_target(recipe: AutoJudgeRecipe, where: str) -> None:
    """UserError where the recipe's target is not the one whose answers were mined; on which device does not matter."""
    if recipe.target is None or not recipe.mined:
        return
    directory = Path(recipe.mined[0]).expanduser()  # all others are checked against the first
    theirs = config.parse(ModelConfig, read_header(directory).target, f"{directory / HEADER}: target")
    if binding.same_name(recipe.target.name, theirs.name):
        theirs = dataclasses.replace(theirs, name=recipe.target.name)
    for key in ("name", "revision", "quant", "draft_from", "adapters"):
        ours, known = vars(recipe.target)[key], vars(theirs)[key]
        if ours != known:
            raise UserError(
                f"{where}: key 'target.{key}' is {ours!r}, and {directory / HEADER} was mined with {known!r}. What is "
                "learned is of the mined target: leave 'target' out, or mine with this one."
            )


def _learn(recipe: AutoJudgeRecipe, command: dict[str, Any], directories: list[str]) -> None:
    mined, out = Mined.open(directories), Path(recipe.out)
    rows = mined.rows(judge.columns(recipe.judge))
    made, report, curves = judge.learn(rows, recipe.judge)
    judge.write(judge.RESULTS / out.name, report, curves)
    roles = ("target", "draft") if made.reads_draft else ("target",)
    asked = [node if isinstance(node, dict) else {"type": node} for node in mined.header.data]
    from_traces.placed(
        recipe,
        command,
        mined.header,
        mined.directories[0] / HEADER,
        {role: mined.header.binds[role] for role in roles},
        kind=judges.KIND,
        pieces={"accept": {"type": judges.KIND, "judge": "."}},
        figures={
            "data": {
                "fingerprint": mined.fingerprint(),
                "rows": rows.num_rows,
                "mined": directories,
                "sources": asked,
            },
            "training": report,
        },
        fill=lambda directory: judges.save(made, directory),
    )
