"""Training questions that a test split knows: by a run of 13 words in common, or as the same question.

Words are runs of letters and digits, without case; 13 in a row hardly agree by chance. Only test splits in the data
directory are looked at, and the others are named, so that "no leaks" is never said of what was not compared.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from toolkit.tasks import _data

RUN = 13  # words
TEST_SPLITS = {"gsm8k_test": "question", "math_test": "problem"}  # file -> its field with the question

_WORD = re.compile(r"[a-z0-9]+")


@dataclass
class TestSplit:
    """What is known of a test split: its questions, and every run of words in them."""

    questions: set[str] = field(default_factory=set)
    runs: set[int] = field(default_factory=set)

    def add(self, question: str) -> None:
        self.questions.add(same(question))
        self.runs |= runs(question)


@dataclass(frozen=True)
class Leaks:
    """How many questions a test split knows."""

    runs: int  # share a run of words with some test question
    copies: int  # are a test question, but for case and spaces; short ones have no run


def at_hand() -> tuple[dict[str, TestSplit], list[str]]:
    """The test splits of the data directory, and the names of those that are not there."""
    splits: dict[str, TestSplit] = {}
    for name, key in TEST_SPLITS.items():
        rows = _data.local(name)
        if rows is not None:
            splits[name] = TestSplit()
            for row in rows:
                splits[name].add(row.text(key))
    return splits, [name for name in TEST_SPLITS if name not in splits]


def scan(questions: Iterable[str], split: TestSplit) -> Leaks:
    """Look every question up in a test split."""
    shared = copies = 0
    for question in questions:
        shared += not split.runs.isdisjoint(runs(question))
        copies += same(question) in split.questions
    return Leaks(shared, copies)


def runs(question: str) -> set[int]:
    """Hashes of all runs of 13 words; none for a question that is shorter."""
    words = _WORD.findall(question.lower())
    return {hash(tuple(words[start : start + RUN])) for start in range(len(words) - RUN + 1)}


def same(question: str) -> str:
    """Equal for questions that differ in nothing but case and white space."""
    return " ".join(question.lower().split())
