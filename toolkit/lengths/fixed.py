"""Draft k tokens, always."""

from dataclasses import dataclass

from torch import Tensor

from toolkit.engine.types import Batch, Draft, DraftView, Notes, TargetView, Verdict
from toolkit.errors import UserError
from toolkit.hub import Models


@dataclass
class Config:
    k: int = 4  # tokens a window


class Fixed:
    reads_logits = False
    writes: frozenset[str] = frozenset()
    made_for = None

    def __init__(self, k: int) -> None:
        self.limit = k

    def prefill(self, batch: Batch) -> None:
        pass

    def stop(self, view: DraftView) -> tuple[Tensor | None, Notes]:
        return None, {}

    def observe(self, batch: Batch, draft: Draft, verdict: Verdict, target: TargetView) -> None:
        pass

    def keep(self, rows: Tensor) -> None:
        pass


def build(config: Config, models: Models) -> Fixed:
    if config.k < 1:
        raise UserError(f"length fixed: k must be at least 1, got {config.k} (proposer 'none' drafts nothing)")
    return Fixed(config.k)
