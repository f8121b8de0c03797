r"""What a worked answer looks like: is its final answer marked, do its parts agree, how long are its steps?

Nothing here drops or mends a row. It counts, so that somebody can decide before a model is trained on the rows.
A step ends at a line end, `->`, `;` or the end of a sentence; a word is a number or a run of letters, signs are none.
Chain of Draft (arXiv 2502.18600) allows a step five words.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from toolkit.tasks import _answers, _numbers
from toolkit.tasks._equality import equal, plain, tidy
from toolkit.tasks._types import Score

MOST_WORDS = 5  # a step of a chain of draft

_FINAL_HASHES = re.compile(r"#{4,}[ \t]*\n?[ \t]*([^\n#]+?)\s*$")
_MARKS = re.compile(r"#{4,}.*|\\boxed\s*\{[^{}]*\}\W*$", re.DOTALL)
_STEP_END = re.compile(r"->|→|;|\n+|(?<=[.!?])\s+")
_WORD = re.compile(r"[^\W_]+(?:[.,]\d+)*")


@dataclass(frozen=True)
class Structure:
    """One worked answer."""

    empty: bool
    marked: str | None  # what stands in \boxed{} or after ####; None: no mark
    last_number: bool | None  # is the text's last number that answer? None where the answer is no number
    correct: bool | None  # against the gold answer; None where there is none
    words: tuple[int, ...]  # of each step


@dataclass(frozen=True)
class Summary:
    """Many worked answers. Shares are None where nothing could be counted."""

    rows: int
    empty: int
    marked: float | None  # share with an answer mark
    last_number: float | None  # of marked numbers: share that the last number of the text agrees with
    correct: float | None  # of rows with a gold answer
    graded: int  # rows with a gold answer
    steps: float | None  # mean number of steps
    long_steps: float | None  # share of steps with more than the allowed words
    long_rows: float | None  # share of rows with such a step
    words: dict[int, int]  # words a step -> how many steps


def mark(text: str) -> str | None:
    """The answer that is marked as such; a Markdown heading (`#### Step 1`) marks none."""
    hashes = _FINAL_HASHES.search(text)  # words may follow only the hashes that end the text
    return _answers.last_boxed(text) or _answers.number_after_hashes(text) or (hashes[1] if hashes else None)


def steps(text: str) -> list[str]:
    """The steps of a worked answer, without the answer mark."""
    return [step.strip() for step in _STEP_END.split(_MARKS.sub("", text)) if _WORD.search(step)]


def words(step: str) -> int:
    return len(_WORD.findall(step))


def structure(text: str, score: Score) -> Structure:
    """`score`: the task's verdict on this very text."""
    marked = mark(text)
    return Structure(
        empty=not text.strip(),
        marked=marked,
        last_number=None if marked is None else _agrees(marked, text),
        correct=score.correct,
        words=tuple(words(step) for step in steps(text)),
    )


def _agrees(marked: str, text: str) -> bool | None:
    """Would whoever reads only the last number of the text read the marked answer?"""
    if _numbers.read(plain(tidy(marked))) is None:
        return None
    last = _answers.last_number(text)
    return last is not None and equal(marked, last)


def summary(structures: Sequence[Structure], most_words: int = MOST_WORDS) -> Summary:
    """Figures over all of them."""
    counts = Counter(count for one in structures for count in one.words)
    return Summary(
        rows=len(structures),
        empty=sum(one.empty for one in structures),
        marked=_share([one.marked is not None for one in structures]),
        last_number=_share([one.last_number for one in structures if one.last_number is not None]),
        correct=_share([one.correct for one in structures if one.correct is not None]),
        graded=sum(one.correct is not None for one in structures),
        steps=counts.total() / len(structures) if structures else None,
        long_steps=_share([count > most_words for one in structures for count in one.words]),
        long_rows=_share([any(count > most_words for count in one.words) for one in structures]),
        words=dict(sorted(counts.items())),
    )


def _share(flags: Sequence[bool]) -> float | None:
    return sum(flags) / len(flags) if flags else None
