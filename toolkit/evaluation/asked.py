"""prompts.jsonl: what the model was asked, once for all of its answers; rows have no more of a prompt than its id.

A line a prompt. Its messages are the task's, before a chat template (or, without one, blank lines between them) makes
a text of them; follow_ups are what the user says after each answer but the last.
"""

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson
from pydantic import TypeAdapter, ValidationError

from toolkit.errors import UserError
from toolkit.evaluation.outdir import PROMPTS
from toolkit.evaluation.plan import Plan
from toolkit.files import write_atomic


@dataclass(frozen=True)
class Turn:
    role: str
    content: str


@dataclass(frozen=True)
class Asked:
    id: str
    messages: list[Turn]
    follow_ups: list[str]


_LINE = TypeAdapter(Asked)


def keep(plan: Plan, directory: Path) -> None:
    """Write those of the plan's sets. What only a longer run of this directory asked stays there, behind them."""
    blocks = [*plan.speed_blocks(), *plan.quality_blocks()]
    prompts = {prompt.id: prompt for block in blocks for prompt in block.prompts}
    found = {
        name: Asked(
            name,
            [Turn(one["role"], one["content"]) for one in plan.setting.task.messages(prompt.problem)],
            [*prompt.problem.follow_ups],
        )
        for name, prompt in prompts.items()
    }
    path = directory / PROMPTS
    found |= {one.id: one for one in _lines(path) if one.id not in found}
    write_atomic(path, b"".join(orjson.dumps(asdict(one)) + b"\n" for one in found.values()))


def read(directory: Path, ids: Collection[str]) -> dict[str, Asked]:
    """Those of them that are there, by id; a directory of an older version has none."""
    return {one.id: one for one in _lines(directory / PROMPTS) if one.id in ids}


def _lines(path: Path) -> Iterator[Asked]:
    if not path.is_file():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield _LINE.validate_json(line)
            except ValidationError:
                raise UserError(
                    f"{path} line {number}: expected a prompt's id, messages and follow_ups. Delete the file; the "
                    "command of its run writes it again, and decodes nothing twice."
                ) from None
