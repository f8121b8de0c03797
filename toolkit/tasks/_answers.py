"""Finds the answer in a model's text, and says by which path it was found.

GSM8K-like: `####`, "the final answer is", \\boxed{}, last number. MATH-like: last balanced \\boxed{}, `####`,
"the final answer is", last number. A path that fires is final: if what it found is wrong, no later path is tried.
"""

import re
from collections.abc import Callable

from toolkit.tasks import _numbers
from toolkit.tasks._equality import equal, plain, tidy
from toolkit.tasks._types import Path, Score

Finder = Callable[[str], str | None]

_HASHES = re.compile(r"#{4,}[ \t]*\n?[ \t]*([^\n#]+)")
_HEADING = re.compile(r"[*_]*(?:[A-Za-z]|\d+[.)]\s+[A-Za-z])")  # "#### Step 1", "#### 1. Add": Markdown, no answer
_FINAL = re.compile(r"(?i)\banswer\b[*_ ]*(?:(?:is|are|equals)\b|[:=]|\n)[:=*_\s]*")
_SENTENCE_END = re.compile(r"[.!?](?:\s|$)")
_MATH = re.compile(r"\$\$?([^$]+)\$(?!\d)|\\\((.+?)\\\)")  # not "$18 and she pays $20"
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*")
_ANY_NUMBER = re.compile(
    r"(?:(?<![\w)}])[-\u2212])?"  # a sign, unless it is a minus between two terms
    r"(?:\\[dt]?frac\{\d+\}\{\d+\}|\$?(?:(?:[1-9]\d{0,2}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:\s*/\s*\d+)?(?:\s*\\?%)?)"
)


def last_boxed(text: str) -> str | None:
    """Content of the last \\boxed{} whose braces balance and that is not empty."""
    found = None
    for match in _BOXED.finditer(text):
        if text[match.end() : match.end() + 1] != "{":
            content = re.match(r"[^\s{}$\\.,]+", text[match.end() :])  # \boxed 5
            found = content[0] if content else found
            continue
        depth = 0
        for end in range(match.end(), len(text)):
            depth += (text[end] == "{") - (text[end] == "}")
            if depth == 0:
                found = text[match.end() + 1 : end].strip() or found
                break
    return found


def number_after_hashes(text: str) -> str | None:
    """The first `####` that a number follows (what comes later is a model running on), else the first no heading."""
    tails = [tail for tail in _tails(text) if not _HEADING.match(tail)]
    numbers = [tail for tail in tails if _numbers.read(plain(tidy(tail))) is not None]
    return next(iter(numbers or tails), None)


def expression_after_hashes(text: str) -> str | None:
    """The last `####` that does not announce an answer instead of giving it."""
    tails = [tail for tail in _tails(text) if not tail.endswith(":") and "answer" not in tail.lower()]
    return tails[-1] if tails else None


def _tails(text: str) -> list[str]:
    tails = [tail.strip().strip("*").strip() for tail in _HASHES.findall(text)]
    return [last_boxed(tail) or tail for tail in tails if tail]


def after_final_answer(text: str) -> str | None:
    """What the last "the answer is" (or "Answer:") announces, when it holds a number or an expression."""
    for match in reversed(list(_FINAL.finditer(text))):
        tail = text[match.end() :].partition("\n")[0].strip()
        boxed = last_boxed(tail)
        if boxed is not None:
            return boxed
        expression = _MATH.match(tail)
        if expression is not None:
            return (expression[1] or expression[2]).strip()
        sentence = _SENTENCE_END.split(tail, maxsplit=1)[0].strip("* ")
        if re.search(r"\d", sentence):
            return sentence
    return None


def last_number(text: str) -> str | None:
    """The last number of the text: a guess, and recorded as such."""
    numbers = _ANY_NUMBER.findall(text)
    return numbers[-1] if numbers else None


GSM8K_PATHS: tuple[tuple[Path, Finder], ...] = (
    ("hashes", number_after_hashes),
    ("final_answer", after_final_answer),
    ("boxed", last_boxed),
    ("last_number", last_number),
)
MATH_PATHS: tuple[tuple[Path, Finder], ...] = (
    ("boxed", last_boxed),
    ("hashes", expression_after_hashes),
    ("final_answer", after_final_answer),
    ("last_number", last_number),
)


def extract(text: str, paths: tuple[tuple[Path, Finder], ...]) -> tuple[str | None, Path]:
    """What the first path that fires has found, and its name."""
    for path, find in paths:
        found = find(text)
        if found:
            return found, path
    return None, "none"


def grade_number(text: str, gold: str | None) -> Score:
    """Grader of grade-school problems."""
    return _graded(gold, *extract(text, GSM8K_PATHS))


def grade_expression(text: str, gold: str | None) -> Score:
    """Grader of competition problems."""
    return _graded(gold, *extract(text, MATH_PATHS))


def grade_exact(text: str, gold: str | None) -> Score:
    """The whole text, but for outer white space, is the answer."""
    text = text.strip()
    return Score(None if gold is None else text == gold.strip(), text, "text")


def grade_nothing(text: str, gold: str | None) -> Score:
    """No verdict: for prompts that have no right answer."""
    return Score(None, None, "none")


def _graded(gold: str | None, extracted: str | None, path: Path) -> Score:
    if gold is None:
        return Score(None, extracted, path)
    return Score(extracted is not None and equal(gold, extracted), extracted, path)
