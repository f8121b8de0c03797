"""What a task is: problems, the chat that poses one, a worked answer where there is one, and a verdict on a text.

A model is trained on the same object that it is judged by, so prompts and styles cannot drift apart.

A score keeps the extraction path that fired, because an accuracy that rests on "the last number of the text"
is worth less than one that rests on the format that was asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

Message = dict[str, str]  # {"role": "system" | "user" | "assistant", "content": ...}
Path = Literal["hashes", "boxed", "final_answer", "last_number", "text", "none"]


@dataclass(frozen=True)
class Problem:
    """One question; `answer` is the gold answer, None when there is none to compare with.

    `worked` holds answers worked out in full, by style (`cot`, `cod`; `response` where the source knows no styles):
    what a model is trained to say.
    """

    id: str
    question: str
    answer: str | None
    meta: dict[str, str | int | None] = field(default_factory=dict)  # solution, level, subject: never in a prompt
    worked: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Score:
    """Verdict on one text; `correct` is None when the problem has no gold answer."""

    correct: bool | None
    extracted: str | None
    path: Path  # "text": the whole text was compared; "none": nothing was found, or nothing was looked for


class Task(Protocol):
    """Problems, how to pose them, how to judge what comes back."""

    name: str

    def problems(self) -> list[Problem]: ...

    def messages(self, problem: Problem) -> list[Message]:
        """The chat that poses the problem: system prompt, few-shot turns, question."""

    def response(self, problem: Problem) -> str | None:
        """The worked answer in the task's style, final answer marked; None where the source has none."""

    def score(self, problem: Problem, text: str) -> Score: ...

    def fingerprint(self) -> str:
        """sha256 of the selected problems and of everything said around them: the data part of a resume key."""
