"""SpecDec++ (Huang et al. 2024, arXiv 2405.19715): stop where a drafted token has probably been rejected already.

A trained head f reads the draft's state of each candidate; the window ends where 1 - f_0 f_1 ... f_(d-1), over all of
its candidates, is above a threshold. The newest candidate is in the product: its state is there before the next one is
sampled (the public code lags by one). Every candidate that was sampled is submitted, so the composition is lossless.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.engine.types import Batch, Draft, DraftView, Notes, TargetView, Verdict
from toolkit.errors import UserError
from toolkit.hub import Models
from toolkit.nets.heads import AcceptanceHead


@dataclass
class Config:
    head: str  # a directory that train/specdecpp.py wrote
    threshold: float | None = None  # null: the one that was chosen for it
    min: int = 1  # tokens that are always drafted
    max: int | None = None  # longest window, tokens; null: the one that was chosen for it


class SpecDecPP:
    reads_logits = True
    writes: frozenset[str] = frozenset()

    def __init__(
        self, head: AcceptanceHead, threshold: float, least: int, limit: int, made_for: str | None = None
    ) -> None:
        self.head, self.threshold, self.least, self.limit, self.made_for = head, threshold, least, limit, made_for
        self._kept = torch.empty(0)  # [B]: the chance that all candidates so far are accepted

    def prefill(self, batch: Batch) -> None:
        pass  # a window's beginning forgets the one before

    def stop(self, view: DraftView) -> tuple[Tensor | None, Notes]:
        if view.depth == 0:  # no candidate yet
            self._kept = torch.ones(len(view.requests), device=view.requests.device)
            return None, {}
        self._check(view)
        self._kept = self._kept * self.head.probability(view.hidden)
        if view.depth < self.least:
            return None, {}
        return 1 - self._kept > self.threshold, {}

    def _check(self, view: DraftView) -> None:
        width = None if view.hidden is None else view.hidden.shape[-1]
        if width != self.head.width:
            raise UserError(
                f"length specdecpp: its head reads hidden states of width {self.head.width}, and the draft's have "
                f"{width or 'none to show'}. Use the draft that the head was trained with, or train one on its traces."
            )

    def observe(self, batch: Batch, draft: Draft, verdict: Verdict, target: TargetView) -> None:
        pass

    def keep(self, rows: Tensor) -> None:
        pass  # rows change between windows only


def build(config: Config, models: Models) -> SpecDecPP:
    _check_bounds(config.threshold, config.min, config.max)
    head, made, made_for = models.acceptance_head(config.head)
    config.threshold = made.threshold if config.threshold is None else config.threshold
    config.max = made.max if config.max is None else config.max
    _check_bounds(config.threshold, config.min, config.max)
    return SpecDecPP(head, config.threshold, config.min, config.max, made_for)


def _check_bounds(threshold: float | None, least: int, limit: int | None) -> None:
    if not ((threshold is None or 0 <= threshold <= 1) and least >= 1 and (limit is None or least <= limit)):
        raise UserError(
            "length specdecpp: needs a threshold from 0 to 1 and 1 <= min <= max, got "
            f"threshold={threshold}, min={least}, max={limit}"
        )
