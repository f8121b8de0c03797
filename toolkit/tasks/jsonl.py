"""Your own prompts: a .jsonl[.gz] file, one object a line: `prompt`, and optionally `response`, `answer`, `id`, `tier`.

`response` is the worked answer to train on: every row has one, or none has.
`score` says how answers are judged: math (as in the task math: boxed, ####, "the answer is", last number; equality
by value), exact (the whole text) or none. A row without an answer has no score.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import UserError
from toolkit.tasks import _answers, _data
from toolkit.tasks._chat import ChatTask, Options
from toolkit.tasks._types import Problem, Task

GRADERS = {
    "math": _answers.grade_expression,
    "exact": _answers.grade_exact,
    "none": _answers.grade_nothing,
}


@dataclass
class Config(Options):
    path: str  # the file; relative to where the program is started
    score: str = "math"  # math | exact | none


def build(config: Config) -> Task:
    """The selected prompts, each a chat of one user message."""
    score = _data.choice("score", config.score, tuple(GRADERS))
    rows = _data.read_jsonl(Path(config.path))
    _check_responses(rows)
    problems = [_problem(row, number) for number, row in enumerate(rows, start=1)]
    repeated = [identity for identity, count in Counter(problem.id for problem in problems).items() if count > 1]
    if repeated:
        raise UserError(
            f"{config.path}: id {repeated[0]!r} occurs more than once; ids must differ (or leave them all out)"
        )
    return ChatTask(
        name=Path(config.path).name.removesuffix(".gz").removesuffix(".jsonl"),
        selected=config.selected(problems),
        preamble=config.preamble(),
        grade=GRADERS[score],
        metric=None if score == "none" else "accuracy",
    )


def _problem(row: _data.Row, number: int) -> Problem:
    response, tier = row.optional("response"), row.optional("tier")
    return Problem(
        id=row.optional("id") or f"row-{number}",
        question=row.text("prompt"),
        answer=row.optional("answer"),
        meta={"where": row.where} | ({} if tier is None else {"tier": tier}),
        worked={} if response is None else {"response": response},
    )


def _check_responses(rows: list[_data.Row]) -> None:
    """A row that should have been trained on must not go missing in silence."""
    responses = [row.optional("response") for row in rows]
    for row, response in zip(rows, responses, strict=True):
        if response is not None and not response.strip():
            raise UserError(f"{row.where}: field 'response' is empty; mend or delete the line")
        if response is None and any(responses):
            raise UserError(
                f"{row.where}: field 'response' is missing, though other lines have one; mend or delete the line"
            )
