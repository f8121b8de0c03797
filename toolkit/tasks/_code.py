"""Tasks whose answers are programs: finds the program in a text, and lets the sandbox say what it is worth.

The gold answer of such a problem is the verdict `pass`, and a score's `extracted` is the verdict that was reached. So
"the same answer" means that both programs pass, or neither does: which is what AutoJudge's search asks of two texts.
"""

import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from toolkit.tasks import _sandbox
from toolkit.tasks._chat import Posed
from toolkit.tasks._sandbox import Job, Verdict
from toolkit.tasks._types import Path, Problem, Score

PASS = "pass"
_BLOCK = re.compile(r"```[^\n`]*\n(.*?)(```|\Z)", re.DOTALL)


@dataclass(frozen=True)
class Found:
    """A program in a text. complete: its block was closed."""

    code: str
    path: Path
    complete: bool


@dataclass(frozen=True, kw_only=True)
class CodeTask(Posed):
    """Implements `Task`. find: the program that a text holds, None where there is none; job: it, with its tests."""

    find: Callable[[Problem, str], Found | None]
    job: Callable[[Problem, Found], Job]
    metric: str | None = "pass@1"

    def score(self, problem: Problem, text: str) -> Score:
        return self.scores([(problem, text)])[0]

    def scores(self, answers: Sequence[tuple[Problem, str]]) -> list[Score]:
        found = [self.find(problem, text) if problem.tests else None for problem, text in answers]
        jobs = [self.job(problem, one) for (problem, _), one in zip(answers, found, strict=True) if one]
        verdicts = iter(_sandbox.judge(jobs))
        return [
            _score(problem, one, next(verdicts) if one else None)
            for (problem, _), one in zip(answers, found, strict=True)
        ]


def _score(problem: Problem, found: Found | None, verdict: Verdict | None) -> Score:
    passed = verdict is not None and verdict.name == PASS
    correct = None if problem.answer is None else passed == (problem.answer == PASS)
    if found is None:
        return Score(correct, None, "none")
    return Score(correct, verdict.name, found.path, found.complete)


def block(text: str, name: str | None = None) -> Found | None:
    """The last fenced block: of those that define `name`, where any does, and rather a closed one."""
    blocks = [Found(textwrap.dedent(match[1]), "code_block", bool(match[2])) for match in _BLOCK.finditer(text)]
    naming = [one for one in blocks if name and defines(one.code, name)] or blocks
    closed = [one for one in naming if one.complete] or naming
    return closed[-1] if closed else None


def defines(code: str, name: str) -> bool:
    """By a function, a class or an assignment (`f = lambda x: x`)."""
    named = re.escape(name)
    sign = rf"^(?:(?:async\s+def|def|class)\s+{named}\b|{named}\s*(?::[^=\n]*)?=(?!=))"
    return re.search(sign, code, re.MULTILINE) is not None


def whole(text: str, sign: str) -> Found | None:
    """The text itself, where something in it looks like a program (a regular expression, at the start of a line)."""
    return Found(text, "whole_text", False) if re.search(sign, text, re.MULTILINE) else None
