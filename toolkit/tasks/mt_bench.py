"""MT-Bench: 80 questions of two turns in eight categories (Zheng et al. 2023, arXiv 2306.05685). Timed, not scored.

A question is one conversation: the second turn follows on the model's own first answer, and a record holds both.
"""

from dataclasses import dataclass, field

from toolkit.tasks import _data, _turns
from toolkit.tasks._types import Task

HUB_ID = "lighteval/mt-bench"


@dataclass
class Config:
    turns: int = 2  # 1: only the first of each question
    categories: list[str] = field(default_factory=list)  # "writing", "math", ...; [] = all
    system: str | None = None  # system prompt
    limit: int | None = None  # how many questions; null = all
    offset: int = 0  # how many to skip first
    shuffle_seed: int | None = None  # null = the file's order


def build(config: Config) -> Task:
    """The selected questions."""
    return _turns.task("mt_bench", _rows(), **vars(config))


def _rows() -> list[_data.Row]:
    return _data.load("mt_bench", HUB_ID, lambda: _data.hub_rows(HUB_ID, None, "train"))
