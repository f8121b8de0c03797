"""Questions in one or several turns, in the format of MT-Bench and Spec-Bench: nothing is scored, only timed.

A later turn follows on the model's own answer to the one before. Which methods are compared does not matter for that:
at temperature 0 exact ones have the same conversation, and lossy ones have their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from toolkit.errors import UserError
from toolkit.tasks import _answers, _data
from toolkit.tasks._chat import ChatTask, Options
from toolkit.tasks._types import Problem, Task


@dataclass
class Config(Options):
    turns: int | None = None  # how many of each question's; null = all
    categories: list[str] = field(default_factory=list)  # "writing", "math", ...; [] = all


def task(name: str, rows: Sequence[_data.Row], config: Config) -> Task:
    """The selected questions."""
    turns, categories = config.turns, config.categories
    if turns is not None and turns < 1:
        raise UserError(f"task {name}: turns is {turns}; expected 1 or more (or null for all)")
    known = sorted({row.text("category") for row in rows})
    for category in categories:
        _data.choice("categories", category, known)
    fitting = [_problem(name, row, turns) for row in rows if not categories or row.text("category") in categories]
    return ChatTask(
        name=name,
        selected=config.selected(fitting),
        preamble=config.preamble(),
        grade=_answers.grade_nothing,
        metric=None,
    )


def _problem(name: str, row: _data.Row, turns: int | None) -> Problem:
    said = row.values.get("turns")
    if not isinstance(said, list) or not said or not all(isinstance(one, str) and one.strip() for one in said):
        raise UserError(f"{row.where}: field 'turns' is {said!r}; expected a list of what the user says, not empty")
    first, *others = said[:turns]
    identity = f"{name}-{row.text('question_id')}"
    return Problem(identity, first, None, {"category": row.text("category")}, follow_ups=tuple(others))
