"""Stop drafting where the draft is unsure: entropy of its next-token law above a threshold.

The entropy is of the raw draft distribution at temperature 1, in nats. The decision falls before the token is
sampled, so it drops no candidate that was seen and the composition stays lossless. An unsure first token means a
plain target step. (The public code that calls this rule "SpecDec++" is a heuristic; the learned head is another.)
"""

from dataclasses import dataclass

from torch import Tensor

from toolkit.engine.types import Batch, Draft, DraftView, Notes, TargetView, Verdict
from toolkit.errors import UserError
from toolkit.hub import Models


@dataclass
class Config:
    threshold: float = 2.0  # nats
    max: int = 4  # longest window, tokens


class Entropy:
    reads_logits = True
    writes = frozenset({"entropy"})
    made_for = None

    def __init__(self, threshold: float, limit: int) -> None:
        self.threshold, self.limit = threshold, limit

    def prefill(self, batch: Batch) -> None:
        pass

    def stop(self, view: DraftView) -> tuple[Tensor | None, Notes]:
        logq = view.logits.float().log_softmax(-1)
        entropy = -(logq.exp() * logq).sum(-1)  # [B]
        return entropy > self.threshold, {"entropy": entropy}

    def observe(self, batch: Batch, draft: Draft, verdict: Verdict, target: TargetView) -> None:
        pass

    def keep(self, rows: Tensor) -> None:
        pass


def build(config: Config, models: Models) -> Entropy:
    if config.max < 1 or config.threshold < 0:
        raise UserError(
            "length entropy: needs max >= 1 and threshold >= 0 nats, "
            f"got max={config.max}, threshold={config.threshold}"
        )
    return Entropy(config.threshold, config.max)
