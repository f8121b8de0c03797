"""The one kind of task there is so far: problems posed as a chat, judged by a grader.

Tasks differ in where problems come from and in how an answer is read, so they are values of this class, not
subclasses of it.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from toolkit.tasks._types import Message, Problem, Score

Grader = Callable[[str, str | None], Score]  # (text, gold answer) -> score


@dataclass(frozen=True)
class ChatTask:
    """Implements `Task`."""

    name: str
    selected: Sequence[Problem]
    preamble: Sequence[Message]  # system prompt and few-shot turns, the same for every problem
    grade: Grader
    style: str = "response"  # which of a problem's worked answers is this task's

    def problems(self) -> list[Problem]:
        return list(self.selected)

    def messages(self, problem: Problem) -> list[Message]:
        return [*(dict(message) for message in self.preamble), {"role": "user", "content": problem.question}]

    def response(self, problem: Problem) -> str | None:
        return problem.worked.get(self.style)

    def score(self, problem: Problem, text: str) -> Score:
        return self.grade(text, problem.answer)

    def fingerprint(self) -> str:
        content = [list(self.preamble), [[problem.id, problem.question, problem.answer] for problem in self.selected]]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
