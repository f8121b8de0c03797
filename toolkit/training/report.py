"""`python train/audit.py RECIPE [key=value ...]`: what a recipe would train on, as Markdown and as JSON.

Printed, and written to results/data beside each other under the recipe's name. Figures only: whether 742 leaked
questions matter is for whoever reads them to say.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from toolkit import config
from toolkit.errors import UserError
from toolkit.export.figures import NONE, number, percent
from toolkit.files import write_atomic, write_json
from toolkit.loading import read_tokenizer
from toolkit.training import data, recipe
from toolkit.training.audit import Audit, Lengths, TaskAudit, Tokens, audit
from toolkit.training.checks import MOST_WORDS
from toolkit.training.leaks import RUN

OUT = Path("results/data")
_BAR = 40  # characters of the longest bar
_BUCKETS = ((1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 10), (11, 20), (21, None))  # words a step


def main(argv: Sequence[str] | None = None) -> int:
    """Report on the recipe that the arguments name -> the exit code."""
    does = "Report on the data that a recipe of train/lora.py trains on."
    return config.program("train/audit.py", does, argv, _load_and_print, "data.max_length=256")


def _load_and_print(path: str, overrides: list[str]) -> None:
    print(report(recipe.load(path, overrides), path, OUT))


def report(chosen: recipe.LoraRecipe, source: str, out: Path) -> str:
    """Write OUT/NAME.md and OUT/NAME.json -> the Markdown. `source`: how the user named the recipe."""
    settings = chosen.data
    tasks = data.tasks(settings.tasks, source)
    generated = data.read_responses(Path(settings.responses)) if settings.responses else None
    notes = []
    try:
        tokens = Tokens(read_tokenizer(chosen.target or chosen.model), settings.max_length, settings.thinking)
    except UserError as error:  # a report on the data of a model that is elsewhere is still worth having
        tokens = None
        notes.append(f"tokens not counted: {error}")
    found = audit(tasks, generated, tokens)
    text = markdown(found, source, settings.tasks, notes)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_atomic(out / f"{Path(source).stem}.md", text.encode())
        write_json(out / f"{Path(source).stem}.json", {"recipe": source, "data": asdict(settings)} | asdict(found))
    except OSError as error:
        raise UserError(f"{out}: the report cannot be written ({error}); free space, or start where it can.") from error
    return text


def markdown(found: Audit, source: str, nodes: Sequence[Any], notes: Sequence[str]) -> str:
    """A column a task, a row a figure; then how many words their steps have."""
    titles = [f"{number}: {one.name}" for number, one in enumerate(found.tasks, start=1)]
    lines = [["", *titles], ["---", *["---:"] * len(titles)]]
    lines += [[title, *(figure(one) for one in found.tasks)] for title, figure in _figures(found)]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    parts = [f"# Data of {source}\n", *(f"{number}. `{node}`" for number, node in enumerate(nodes, start=1))]
    parts += [
        "",
        table,
        "",
        "Lengths are least / median / 95th percentile / most; a share is of the rows it applies to.",
    ]
    parts.append(f"Questions repeated over all tasks together: {found.repeated:,}.")
    if found.splits_missing:
        parts.append(f"Not compared with, as not in DRAFTSMITH_DATA_DIR: {', '.join(found.splits_missing)}.")
    parts += notes
    for title, one in zip(titles, found.tasks, strict=True):
        parts.append(f"\nWords a step, {title}\n\n```\n{histogram(one.structure.words)}\n```")
    return "\n".join(parts) + "\n"


def _figures(found: Audit) -> list[tuple[str, Callable[[TaskAudit], str]]]:
    splits = list(dict.fromkeys(name for one in found.tasks for name in one.leaks))
    return [
        ("rows", lambda one: f"{one.rows:,}"),
        ("without an answer to train on", lambda one: f"{one.unanswered:,}"),
        ("words, question", lambda one: _lengths(one.prompt_words)),
        ("words, answer", lambda one: _lengths(one.answer_words)),
        ("tokens, prompt", lambda one: _lengths(one.prompt_tokens)),
        ("tokens, answer", lambda one: _lengths(one.answer_tokens)),
        ("longer than data.max_length", lambda one: number(one.overlong, 0)),
        ("empty answers", lambda one: f"{one.structure.empty:,}"),
        ("answer marked", lambda one: percent(one.structure.marked)),
        (
            "right, of those with a gold answer",
            lambda one: f"{percent(one.structure.correct)} of {one.structure.graded:,}",
        ),
        ("last number is the marked one", lambda one: percent(one.structure.last_number)),
        ("steps an answer", lambda one: number(one.structure.steps, 1)),
        (f"steps over {MOST_WORDS} words", lambda one: percent(one.structure.long_steps)),
        (f"answers with a step over {MOST_WORDS} words", lambda one: percent(one.structure.long_rows)),
        ("questions repeated", lambda one: f"{one.repeated:,}"),
        *((f"share {RUN} words with {name} (same question)", _leaks(name)) for name in splits),
    ]


def _leaks(split: str) -> Callable[[TaskAudit], str]:
    return lambda one: f"{one.leaks[split].runs:,} ({one.leaks[split].copies:,})"


def histogram(words: dict[int, int]) -> str:
    """Bars of text: how many steps have so many words."""
    counts = [
        (f"{low}" if low == high else f"{low}-{high}" if high else f"{low}+", _between(words, low, high))
        for low, high in _BUCKETS
    ]
    most = max(count for _, count in counts) or 1
    return "\n".join(f"{label:>5} {'#' * round(_BAR * count / most):<{_BAR}} {count:,}" for label, count in counts)


def _between(words: dict[int, int], low: int, high: int | None) -> int:
    return sum(count for number, count in words.items() if low <= number and (high is None or number <= high))


def _lengths(found: Lengths | None) -> str:
    return NONE if found is None else f"{found.least} / {found.median} / {found.p95} / {found.most}"
