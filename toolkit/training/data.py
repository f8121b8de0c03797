"""Training rows: the prompts of tasks and their answers, as token ids with the loss on the answer only.

A row's prompt is made by the same task and template that evaluation uses, so a model is never tested under an
instruction that it was not trained under. Rows that cannot be used are dropped by rule and counted by reason.
"""

import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from toolkit import chat, config
from toolkit.errors import UserError
from toolkit.tasks._data import read_jsonl
from toolkit.tasks._types import Problem, Task
from toolkit.training.recipe import DataConfig

IGNORED = -100  # what the loss skips
TRAIN = "train"


@dataclass(frozen=True)
class Row:
    """One example; `labels` is `input_ids` with the prompt's part ignored."""

    key: str  # task and problem id
    input_ids: tuple[int, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Data:
    """Rows to train on and rows held out, and what the manifest says of them."""

    train: Sequence[Row]
    valid: Sequence[Row]
    dropped: dict[str, int] = field(default_factory=dict)  # by reason
    sources: list[dict[str, Any]] = field(default_factory=list)

    def fingerprint(self) -> str:
        """sha256 of all token ids, in order."""
        ids = [[row.key, row.input_ids, row.labels] for row in (*self.train, *self.valid)]
        return hashlib.sha256(json.dumps(ids).encode()).hexdigest()

    def describe(self) -> dict[str, Any]:
        """For a manifest."""
        return {
            "fingerprint": self.fingerprint(),
            "rows": len(self.train),
            "valid_rows": len(self.valid),
            "tokens": sum(len(row.input_ids) for row in self.train),
            "answer_tokens": sum(label != IGNORED for row in self.train for label in row.labels),
            "sources": self.sources,
            "dropped": self.dropped,
        }


def tasks(nodes: Sequence[Any], where: Path | str) -> list[Task]:
    """The tasks that a recipe's `data.tasks` names."""
    built = []
    for number, node in enumerate(nodes):
        module, options = config.piece("tasks", node, f"{where}: data.tasks.{number}")
        split = vars(options).get("split", TRAIN)
        if split != TRAIN:
            raise UserError(
                f"{where}: key 'data.tasks.{number}.split' is '{split}'; expected '{TRAIN}': what is trained on cannot "
                "be tested on."
            )
        built.append(module.build(options))
    return built


def load(settings: DataConfig, tokenizer: PreTrainedTokenizerBase, seed: int, where: Path | str) -> Data:
    """Tokenised, filtered, shuffled and split. The held-out rows are the same for every run with this seed."""
    generated = read_responses(Path(settings.responses)) if settings.responses else None
    rows: list[Row] = []
    dropped: Counter[str] = Counter()
    for key, task, problem in keyed(tasks(settings.tasks, where), where):
        if generated is None:
            response = task.response(problem)
            if response is not None and not response.strip():
                raise UserError(f"{_place(task, problem)}: the response is empty; mend or delete the row.")
            reason = "no answer" if response is None else None
        else:
            response, reason = generated.get(key, ("", "no answer"))
        if reason:
            dropped[reason] += 1
            continue
        ids = chat.encode_answered(task.messages(problem), response, tokenizer, settings.thinking)
        _add(Row(key, sum(ids, ()), (IGNORED,) * len(ids[0]) + ids[1]), settings.max_length, rows, dropped)
    if len(rows) < 2:
        raise UserError(
            f"{where}: data has {len(rows)} usable rows ({dict(dropped) or 'nothing was dropped'}); expected at least "
            "2. Tasks need split: train and a style with worked answers; data.max_length may be too small."
        )
    random.Random(seed).shuffle(rows)
    held_out = min(max(1, round(settings.valid * len(rows))), len(rows) - 1)
    return Data(rows[held_out:], rows[:held_out], dict(dropped), [_described(node) for node in settings.tasks])


def keyed(chosen: Sequence[Task], where: Path | str) -> Iterator[tuple[str, Task, Problem]]:
    """Every problem under the key that names its prompt in a file of generated answers; UserError for a second one."""
    seen: set[str] = set()
    for task in chosen:
        for problem in task.problems():
            key = f"{task.name}/{problem.id}"
            if key in seen:
                raise UserError(
                    f"{where}: key 'data.tasks': two prompts are '{key}'. Take each problem once: one style, and files "
                    "of different names."
                )
            seen.add(key)
            yield key, task, problem


def read_responses(path: Path) -> dict[str, tuple[str, str | None]]:
    """Row key -> (generated answer, why it is not to be trained on), from a file of {key, response, finish} lines.

    An answer that was cut has no end: trained on, it would teach a draft to stop in the middle.
    """
    if not path.is_file():
        raise UserError(
            f"key 'data.responses': {path} is not there. train/cot_cod.py makes it: the target's own answers to the "
            "training prompts."
        )
    found = {}
    for row in read_jsonl(path):
        response = row.optional("response") or ""
        reason = "cut" if row.optional("finish") == "length" else None if response.strip() else "empty"
        found[row.text("key")] = (response, reason)
    return found


def _add(row: Row, longest: int, rows: list[Row], dropped: Counter[str]) -> None:
    if len(row.input_ids) > longest:
        dropped["overlong"] += 1
    else:
        rows.append(row)


def _place(task: Task, problem: Problem) -> str:
    return str(problem.meta.get("where", f"{task.name}/{problem.id}"))


def _described(node: Any) -> dict[str, Any]:
    return {"type": node} if isinstance(node, str) else dict(node)
