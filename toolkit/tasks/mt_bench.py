"""MT-Bench: 80 questions of two turns in eight categories (Zheng et al. 2023, arXiv 2306.05685). Timed, not scored.

A question is one conversation: the second turn follows on the model's own first answer, and a record holds both.
"""

from dataclasses import dataclass

from toolkit.tasks import _data, _turns
from toolkit.tasks._types import Task

HUB_ID = "lighteval/mt-bench"


@dataclass
class Config(_turns.Config):
    turns: int | None = 2  # 1: only the first of each question


def build(config: Config) -> Task:
    """The selected questions."""
    rows = _data.load("mt_bench", HUB_ID, lambda: _data.hub_rows(HUB_ID, None, "train"))
    return _turns.task("mt_bench", rows, config)
