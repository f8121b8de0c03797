"""Figures about training data, before anything is trained on it: lengths, structure, repeats, leaks.

What is looked at is what `training.data` makes rows of: a task's prompts and its worked answers, or the generated ones
that stand in for them. Nothing is dropped here.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from toolkit import chat
from toolkit.tasks._types import Problem, Task
from toolkit.training import checks, leaks


@dataclass(frozen=True)
class Lengths:
    """Of texts, in words or in tokens."""

    least: int
    median: int
    p95: int
    most: int


@dataclass(frozen=True)
class TaskAudit:
    """One task's rows. Lengths are None where there is nothing to measure, or no tokenizer to count tokens with."""

    name: str
    rows: int  # with an answer to train on
    unanswered: int  # rows without one
    prompt_words: Lengths | None  # of the question alone; tokens are of the whole prompt, template included
    answer_words: Lengths | None
    prompt_tokens: Lengths | None
    answer_tokens: Lengths | None
    overlong: int | None  # rows that training would drop as too long; None: not counted
    structure: checks.Summary
    repeated: int  # rows whose question an earlier row of the same task has
    leaks: dict[str, leaks.Leaks]  # by test split


@dataclass(frozen=True)
class Audit:
    """All tasks of a recipe."""

    tasks: list[TaskAudit]
    repeated: int  # over all tasks together: two styles of one data set repeat each other
    splits_missing: list[str]  # test splits that were not at hand to compare with


@dataclass(frozen=True)
class Tokens:
    """How to count tokens: as training does."""

    tokenizer: PreTrainedTokenizerBase
    longest: int  # tokens of prompt and answer
    thinking: bool = False


def audit(
    tasks: Sequence[Task],
    generated: Mapping[str, tuple[str, str | None]] | None = None,
    tokens: Tokens | None = None,
    most_words: int = checks.MOST_WORDS,
) -> Audit:
    """`generated`: answers by row key, as `data.read_responses` has them, instead of the tasks' own.

    `most_words`: what a step of a draft may have.
    """
    splits, missing = leaks.at_hand()
    audits, questions = [], []
    for task in tasks:
        rows = [(problem, _response(task, problem, generated)) for problem in task.problems()]
        answered = [(problem, response) for problem, response in rows if response is not None]
        audits.append(_audit(task, answered, len(rows) - len(answered), splits, tokens, most_words))
        questions += [problem.question for problem, _ in answered]
    return Audit(audits, repeated(questions), missing)


def _response(task: Task, problem: Problem, generated: Mapping[str, tuple[str, str | None]] | None) -> str | None:
    if generated is None:
        return task.response(problem)
    response, reason = generated.get(f"{task.name}/{problem.id}", ("", "no answer"))
    return None if reason else response


def _audit(
    task: Task,
    rows: Sequence[tuple[Problem, str]],
    unanswered: int,
    splits: Mapping[str, leaks.TestSplit],
    tokens: Tokens | None,
    most_words: int,
) -> TaskAudit:
    questions = [problem.question for problem, _ in rows]
    counted = [] if tokens is None else [_tokens(task, problem, response, tokens) for problem, response in rows]
    structures = [checks.structure(response, task.score(problem, response)) for problem, response in rows]
    return TaskAudit(
        name=task.name,
        rows=len(rows),
        unanswered=unanswered,
        prompt_words=lengths([len(question.split()) for question in questions]),
        answer_words=lengths([len(response.split()) for _, response in rows]),
        prompt_tokens=lengths([prompt for prompt, _ in counted]),
        answer_tokens=lengths([answer for _, answer in counted]),
        overlong=None if tokens is None else sum(sum(pair) > tokens.longest for pair in counted),
        structure=checks.summary(structures, most_words),
        repeated=repeated(questions),
        leaks={name: leaks.scan(questions, split) for name, split in splits.items()},
    )


def _tokens(task: Task, problem: Problem, response: str, tokens: Tokens) -> tuple[int, int]:
    prompt, answer = chat.encode_answered(task.messages(problem), response, tokens.tokenizer, tokens.thinking)
    return len(prompt), len(answer)


def lengths(counts: Sequence[int]) -> Lengths | None:
    """Least, median, 95th percentile (nearest rank: a length that occurs) and most."""
    if not counts:
        return None
    order = sorted(counts)

    def rank(share: float) -> int:
        return order[max(0, math.ceil(share * len(order)) - 1)]

    return Lengths(order[0], rank(0.5), rank(0.95), order[-1])


def repeated(questions: Sequence[str]) -> int:
    """How many ask what an earlier one asks, case and white space aside."""
    return len(questions) - len({leaks.same(question) for question in questions})
