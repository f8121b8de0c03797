"""What a task is: problems, the chat that poses one, a worked answer where there is one, and a verdict on a text.

A model is trained on the same object that it is judged by, so prompts and styles cannot drift apart.

A score keeps the extraction path that fired, because an accuracy that rests on "the last number of the text"
is worth less than one that rests on the format that was asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

Message = dict[str, str]  # {"role": "system" | "user" | "assistant", "content": ...}
Path = Literal["hashes", "boxed", "final_answer", "last_number", "text", "code_block", "whole_text", "none"]


@dataclass(frozen=True)
class Problem:
    """One question; `answer` is the gold answer, None when there is none to compare with.

    `worked` holds answers worked out in full, by style (`cot`, `cod`; `response` where the source knows no styles):
    what a model is trained to say. `follow_ups` are what the user says next, each after the model's answer. `tests`
    is what an answer that is a program is run against, as the task keeps it.
    """

    id: str
    question: str
    answer: str | None
    meta: dict[str, str | int | None] = field(default_factory=dict)  # solution, level, subject: never in a prompt
    worked: Mapping[str, str] = field(default_factory=dict)
    follow_ups: tuple[str, ...] = ()
    tests: str | None = None


@dataclass(frozen=True)
class Score:
    """Verdict on one text; `correct` is None when the problem has no gold answer."""

    correct: bool | None
    extracted: str | None
    path: Path  # "text": the whole text was compared; "none": nothing was found, or nothing was looked for
    complete: bool = False  # what was found had an end of its own, so it counts even where the text was cut after it


class Task(Protocol):
    """Problems, how to pose them, how to judge what comes back."""

    name: str
    metric: str | None  # what the share of correct answers is called; None where nothing is judged

    def problems(self) -> list[Problem]: ...

    def messages(self, problem: Problem) -> list[Message]:
        """The chat that poses the problem: system prompt, few-shot turns, question."""

    def response(self, problem: Problem) -> str | None:
        """The worked answer in the task's style, final answer marked; None where the source has none."""

    def score(self, problem: Problem, text: str) -> Score: ...

    def scores(self, answers: Sequence[tuple[Problem, str]]) -> list[Score]:
        """Of many, side by side where that takes time."""

    def fingerprint(self) -> str:
        """sha256 of the selected problems and of everything said around them: the data part of a resume key."""
