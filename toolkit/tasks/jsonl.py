"""Your own prompts: a .jsonl or .jsonl.gz file with one object a line, `prompt` and optionally `answer` and `id`.

`score` says how answers are judged: math (as in the task math: boxed, ####, "the answer is", last number; equality
by value), exact (the whole text) or none. A row without an answer has no score.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import UserError
from toolkit.tasks import _answers, _data
from toolkit.tasks._chat import ChatTask
from toolkit.tasks._types import Problem, Task

GRADERS = {
    "math": _answers.grade_expression,
    "exact": _answers.grade_exact,
    "none": _answers.grade_nothing,
}


@dataclass
class Config:
    path: str  # the file; relative to where the program is started
    score: str = "math"  # math | exact | none
    system: str | None = None  # system prompt
    limit: int | None = None  # how many prompts; null = all
    offset: int = 0  # how many to skip first
    shuffle_seed: int | None = None  # null = the file's order


def build(config: Config) -> Task:
    """The selected prompts, each a chat of one user message."""
    score = _data.choice("score", config.score, tuple(GRADERS))
    problems = [_problem(row, number) for number, row in enumerate(_data.read_jsonl(Path(config.path)), start=1)]
    repeated = [identity for identity, count in Counter(problem.id for problem in problems).items() if count > 1]
    if repeated:
        raise UserError(
            f"{config.path}: id {repeated[0]!r} occurs more than once; ids must differ (or leave them all out)"
        )
    return ChatTask(
        name=Path(config.path).name.removesuffix(".gz").removesuffix(".jsonl"),
        selected=_data.select(problems, config.limit, config.offset, config.shuffle_seed),
        preamble=[{"role": "system", "content": config.system}] if config.system else [],
        grade=GRADERS[score],
    )


def _problem(row: _data.Row, number: int) -> Problem:
    return Problem(row.optional("id") or f"row-{number}", row.text("prompt"), row.optional("answer"))
