"""Spec-Bench: 480 prompts of six kinds, to time speculative decoding (Xia et al. 2024, arXiv 2401.07851). Not scored.

It is on no hub: its `question.jsonl` (of the repository hemingkx/Spec-Bench) is read from `path`, or as
`spec_bench.jsonl[.gz]` from the data directory. Any file of its format will do: `question_id`, `category`, `turns`.
"""

from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import UserError
from toolkit.tasks import _data, _turns
from toolkit.tasks._types import Task


@dataclass
class Config(_turns.Config):
    path: str | None = None  # the file; null: spec_bench.jsonl[.gz] in the data directory


def build(config: Config) -> Task:
    """The selected questions."""
    rows = _data.local("spec_bench") if config.path is None else _data.read_jsonl(Path(config.path))
    if rows is None:
        raise UserError(
            "task spec_bench: spec_bench.jsonl[.gz] not found; it is on no hub. Set task.path to Spec-Bench's "
            f"question.jsonl, or {_data.DATA_DIR} to a directory that holds it under that name"
        )
    return _turns.task("spec_bench", rows, config)
