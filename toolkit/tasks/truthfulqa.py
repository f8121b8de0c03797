"""TruthfulQA: 817 questions that people often answer wrongly (Lin et al. 2022, arXiv 2109.07958). Timed, not scored.

Whether a free answer is true takes a judge model, which is not part of this toolkit.
"""

import hashlib
from dataclasses import dataclass

from toolkit.tasks import _answers, _data
from toolkit.tasks._chat import ChatTask, Options
from toolkit.tasks._types import Problem, Task

HUB_ID = "truthfulqa/truthful_qa"


@dataclass
class Config(Options):
    pass


def build(config: Config) -> Task:
    """The selected questions."""
    rows = _data.load("truthfulqa", HUB_ID, lambda: _data.hub_rows(HUB_ID, "generation", "validation"))
    return ChatTask(
        name="truthfulqa",
        selected=config.selected([_problem(row) for row in rows]),
        preamble=config.preamble(),
        grade=_answers.grade_nothing,
        metric=None,
    )


def _problem(row: _data.Row) -> Problem:
    question = row.text("question")
    identity = row.optional("id") or f"truthfulqa-{hashlib.sha256(question.encode()).hexdigest()[:12]}"
    return Problem(
        identity, question, None, {"category": row.optional("category"), "best": row.optional("best_answer")}
    )
