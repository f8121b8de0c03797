"""Spec-Bench: 480 prompts of six kinds, to time speculative decoding (Xia et al. 2024, arXiv 2401.07851). Not scored.

It is on no hub: its `question.jsonl` (of the repository hemingkx/Spec-Bench) is read from `path`, or as
`spec_bench.jsonl[.gz]` from the data directory. Any file of its format will do: `question_id`, `category`, `turns`.
"""

from dataclasses import dataclass, field
from pathlib import Path

from toolkit.errors import UserError
from toolkit.tasks import _data, _turns
from toolkit.tasks._types import Task


@dataclass
class Config:
    path: str | None = None  # the file; null: spec_bench.jsonl[.gz] in the data directory
    turns: int | None = None  # how many of each question's; null = all
    categories: list[str] = field(default_factory=list)  # "translation", "rag", ...; [] = all
    system: str | None = None  # system prompt
    limit: int | None = None  # how many questions; null = all
    offset: int = 0  # how many to skip first
    shuffle_seed: int | None = None  # null = the file's order


def build(config: Config) -> Task:
    """The selected questions."""
    options = vars(config).copy()
    path = options.pop("path")
    rows = _data.local("spec_bench") if path is None else _data.read_jsonl(Path(path))
    if rows is None:
        raise UserError(
            "task spec_bench: spec_bench.jsonl[.gz] not found; it is on no hub. Set task.path to Spec-Bench's "
            f"question.jsonl, or {_data.DATA_DIR} to a directory that holds it under that name"
        )
    return _turns.task("spec_bench", rows, **options)
