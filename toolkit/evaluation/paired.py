"""Two methods' answers to the same questions, in pairs: which of the two is right where they disagree.

McNemar's exact test asks whether it is chance to which side those answers fell. Answers of several seeds to a prompt
are not independent of each other: then there is no p, and a bootstrap over prompts decides.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from toolkit.evaluation.records import Record
from toolkit.evaluation.stats import NO_DIFFERENCE, SURE, Interval, mcnemar, ratio, verdict

Question = tuple[str, int]  # prompt id, seed


@dataclass(frozen=True)
class Paired:
    """A method's answers beside another's, over the questions that both have."""

    n: int  # answers
    lost: int  # right there and wrong here
    gained: int
    difference: Interval  # of accuracy
    p: float | None  # McNemar's, of lost + gained answers; None with several seeds

    @property
    def verdict(self) -> str:
        if self.p is None:
            return verdict(self.difference, 0.0)
        if self.p > SURE:
            return NO_DIFFERENCE
        return "lower" if self.difference.value < 0 else "higher"

    @property
    def said(self) -> str:
        """Verdict and why, for a note."""
        if self.p is None:
            return f"{self.verdict} (bootstrap over prompts, as there are several seeds)"
        return f"{self.verdict} (McNemar p = {self.p:.2g}, of {self.lost + self.gained} answers that differ)"


def paired(mine: Mapping[Question, Record], theirs: Mapping[Question, Record]) -> Paired | None:
    """None without a question that both were judged by."""
    changes: dict[str, list[int]] = defaultdict(list)
    for prompt, here, there in beside(mine, theirs):
        if here.correct is not None and there.correct is not None:
            changes[prompt].append(here.correct - there.correct)
    if not changes:
        return None
    flat = [change for of_prompt in changes.values() for change in of_prompt]
    lost, gained = flat.count(-1), flat.count(1)
    difference = ratio([(sum(of_prompt), len(of_prompt)) for of_prompt in changes.values()])
    p = mcnemar(lost, gained) if len(flat) == len(changes) else None
    return Paired(len(flat), lost, gained, difference, p)


def beside(mine: Mapping[Question, Record], theirs: Mapping[Question, Record]) -> Iterator[tuple[str, Record, Record]]:
    """Prompt and both answers, of what both answered.

    A side that is greedy and ran with one seed has that answer for every seed of the other side.
    """
    ours, others = _of_all(mine), _of_all(theirs)
    for question in sorted(theirs if ours and not others else mine):
        prompt = question[0]
        here, there = mine.get(question, ours.get(prompt)), theirs.get(question, others.get(prompt))
        if here is not None and there is not None:
            yield prompt, here, there


def by_question(rows: Iterable[Record]) -> dict[Question, Record]:
    """The rows that ended, of one method in the quality set."""
    return {(row.prompt_id, row.seed): row for row in rows if row.ok}


def _of_all(side: Mapping[Question, Record]) -> dict[str, Record]:
    """By prompt, where one answer stands for all seeds."""
    if len({seed for _, seed in side}) != 1 or any(row.temperature > 0 for row in side.values()):
        return {}
    return {prompt: row for (prompt, _), row in side.items()}
