"""Questions in one or several turns, in the format of MT-Bench and Spec-Bench: nothing is scored, only timed.

A later turn follows on the model's own answer to the one before. Which methods are compared does not matter for that:
at temperature 0 exact ones have the same conversation, and lossy ones have their own.
"""

from collections.abc import Sequence

from toolkit.errors import UserError
from toolkit.tasks import _answers, _data
from toolkit.tasks._chat import ChatTask
from toolkit.tasks._types import Problem, Task


def task(
    name: str,
    rows: Sequence[_data.Row],
    *,
    turns: int | None,
    categories: Sequence[str],
    system: str | None,
    limit: int | None,
    offset: int,
    shuffle_seed: int | None,
) -> Task:
    """turns: how many of each question's; None: all. categories: only these; (): all."""
    if turns is not None and turns < 1:
        raise UserError(f"task {name}: turns is {turns}; expected 1 or more (or null for all)")
    known = sorted({row.text("category") for row in rows})
    for category in categories:
        _data.choice("categories", category, known)
    fitting = [_problem(name, row, turns) for row in rows if not categories or row.text("category") in categories]
    return ChatTask(
        name=name,
        selected=_data.select(fitting, limit, offset, shuffle_seed),
        preamble=[{"role": "system", "content": system}] if system else [],
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
