"""Problems posed as a chat, judged by a grader.

Tasks differ in where problems come from and in how an answer is read, so they are values of `ChatTask`, not subclasses
of it. What it shares with tasks whose answers are programs is `Posed`.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from toolkit.tasks import _data
from toolkit.tasks._types import Message, Problem, Score

Grader = Callable[[str, str | None], Score]  # (text, gold answer) -> score


@dataclass(kw_only=True)
class Options:
    """What a recipe may say of every task whose problems it does not pose in a style; a task's Config adds its own."""

    system: str | None = None  # system prompt
    limit: int | None = None  # how many problems; null = all
    offset: int = 0  # how many to skip first
    shuffle_seed: int | None = None  # null = the file's order

    def selected(self, problems: Sequence[Problem]) -> list[Problem]:
        return _data.select(problems, self.limit, self.offset, self.shuffle_seed)

    def preamble(self) -> list[Message]:
        return [{"role": "system", "content": self.system}] if self.system else []


@dataclass(frozen=True, kw_only=True)
class Posed:
    """Problems and what is said around them."""

    name: str
    selected: Sequence[Problem]
    preamble: Sequence[Message]  # system prompt and few-shot turns, the same for every problem
    style: str = "response"  # which of a problem's worked answers is this task's
    metric: str | None = "accuracy"

    def problems(self) -> list[Problem]:
        return list(self.selected)

    def messages(self, problem: Problem) -> list[Message]:
        return [*(dict(message) for message in self.preamble), {"role": "user", "content": problem.question}]

    def response(self, problem: Problem) -> str | None:
        return problem.worked.get(self.style)

    def fingerprint(self) -> str:
        content = [list(self.preamble), [_identity(problem) for problem in self.selected]]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class ChatTask(Posed):
    """Implements `Task`."""

    grade: Grader

    def score(self, problem: Problem, text: str) -> Score:
        return self.grade(text, problem.answer)

    def scores(self, answers: Sequence[tuple[Problem, str]]) -> list[Score]:
        return [self.score(problem, text) for problem, text in answers]


def _identity(problem: Problem) -> list[object]:
    """What is asked and what is right; only what the problem has, so that what it may have changes nothing."""
    also = [part for part in (list(problem.follow_ups), problem.tests) if part]
    return [problem.id, problem.question, problem.answer, *also]
