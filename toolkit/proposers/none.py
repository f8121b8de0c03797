"""Proposes nothing: every round is one target forward for one token. This is autoregression, the baseline."""

from dataclasses import dataclass

from torch import Tensor

from toolkit.engine.types import Batch, Draft, LengthPolicy, TargetView, Verdict, Wants
from toolkit.hub import Models


@dataclass
class Config:
    pass


class Nothing:
    wants = Wants()
    has_logits = stateful = gates = learns = False
    weights = ""

    def prefill(self, batch: Batch, capacity: int, target: TargetView) -> None:
        pass

    def propose(self, batch: Batch, length: LengthPolicy) -> Draft:
        return Draft.empty(batch)

    def commit(self, batch: Batch, draft: Draft, verdict: Verdict, target: TargetView) -> None:
        pass

    def keep(self, rows: Tensor) -> None:
        pass


def build(config: Config, models: Models) -> Nothing:
    return Nothing()
