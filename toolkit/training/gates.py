"""Gates on generated answers: what is too bad to train a draft on stops the pipeline, with all its figures.

Rows are never filtered here. Keeping only the right answers would teach the draft a target that does not exist; a
target whose answers are bad should be trained better instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from toolkit.errors import UserError
from toolkit.tasks._types import Problem, Score, Task
from toolkit.training import checks


@dataclass
class Gates:
    """Shares from 0 to 1."""

    marked: float = 0.95  # at least so many answers have an answer mark
    accuracy: dict[str, float] = field(default_factory=dict)  # tier -> at least so many are right, as {easy: 0.85}
    fallback_warning: float = 0.10  # the table warns when more are read by their last number only


@dataclass(frozen=True)
class Generated:
    """One generated answer and the task's verdict on it."""

    problem: Problem
    text: str
    score: Score
    tier: str
    cut: bool = False  # it ran into the token limit, which makes it wrong


@dataclass(frozen=True)
class Figures:
    """For the manifest."""

    rows: int
    marked: float
    cut: float  # share that ran into the token limit
    fallback: float  # share whose answer was read from the last number of the text
    accuracy: dict[str, float]  # by tier, over the rows with a gold answer
    graded: dict[str, int]  # how many those are


def tier_of(task: Task, problem: Problem) -> str:
    """The problem's own tier, else the task's name."""
    return str(problem.meta.get("tier") or task.name)


def figures(answers: Sequence[Generated]) -> Figures:
    """Shares over all answers, accuracy by tier."""
    verdicts: dict[str, list[bool]] = {}
    for answer in answers:
        if answer.score.correct is not None:
            verdicts.setdefault(answer.tier, []).append(answer.score.correct and not answer.cut)
    rows = len(answers)
    return Figures(
        rows=rows,
        marked=sum(checks.mark(answer.text) is not None for answer in answers) / rows,
        cut=sum(answer.cut for answer in answers) / rows,
        fallback=sum(answer.score.path == "last_number" for answer in answers) / rows,
        accuracy={tier: sum(verdicts[tier]) / len(verdicts[tier]) for tier in sorted(verdicts)},
        graded={tier: len(verdicts[tier]) for tier in sorted(verdicts)},
    )


def check(answers: Sequence[Generated], gates: Gates, where: Path | str, key: str = "gates") -> Figures:
    """The figures, where every gate is passed; UserError with all of them where one is not.

    `where` and `key` name the recipe and its place for the gates.
    """
    _check_values(gates, where, key)
    if not answers:
        raise UserError(f"{where}: there is no generated answer to check; generate them first.")
    found = figures(answers)
    for tier in gates.accuracy:
        if tier not in found.accuracy:
            tiers = ", ".join(found.accuracy) or "none, as no problem has a gold answer"
            raise UserError(f"{where}: key '{key}.accuracy.{tier}': no such tier among the answers. Tiers: {tiers}.")
    if found.marked < gates.marked or any(found.accuracy[tier] < least for tier, least in gates.accuracy.items()):
        raise UserError(
            f"{where}: the generated answers do not pass '{key}', so nothing was trained on them:\n"
            f"{table(found, gates)}\n"
            f"Train the target better, or lower '{key}' if such answers are what you want."
        )
    return found


def table(found: Figures, gates: Gates) -> str:
    """Every figure beside its gate."""
    lines = [_line("answer mark", found.marked, gates.marked, found.rows)]
    for tier, share in found.accuracy.items():
        lines.append(_line(f"right, {tier}", share, gates.accuracy.get(tier), found.graded[tier]))
    lines.append(f"  {'cut, so wrong':<24} {found.cut:6.1%}  n={found.rows:<6} no gate")
    warning = "WARNING: " if found.fallback > gates.fallback_warning else "not "
    limit = f"{warning}above {gates.fallback_warning:.1%}"
    lines.append(f"  {'last number only':<24} {found.fallback:6.1%}  n={found.rows:<6} {limit}")
    return "\n".join(lines)


def _line(title: str, share: float, least: float | None, count: int) -> str:
    verdict = "no gate" if least is None else f"at least {least:.1%}: {'ok' if share >= least else 'FAILED'}"
    return f"  {title:<24} {share:6.1%}  n={count:<6} {verdict}"


def _check_values(gates: Gates, where: Path | str, key: str) -> None:
    shares = {"marked": gates.marked, "fallback_warning": gates.fallback_warning}
    shares |= {f"accuracy.{tier}": share for tier, share in gates.accuracy.items()}
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise UserError(f"{where}: key '{key}.{name}' is {share!r}; expected a share from 0 to 1, as 0.85.")
