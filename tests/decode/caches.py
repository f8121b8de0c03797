"""Spies that compare what the loop saw in a round with a fresh prefill of the same text, by a plain model.

They stand in for the acceptance rule and for the proposer, and pass everything on. What they note is the largest
difference of a logit (or of a hidden state) over all rows and rounds, padding and stopped rows aside.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from toolkit.acceptance.rejection import Rejection
from toolkit.engine.types import (
    Batch,
    Draft,
    DraftView,
    LengthPolicy,
    Notes,
    Proposer,
    TargetView,
    Verdict,
    Wants,
)


@dataclass
class Worst:
    """Largest differences so far, and how windows ended: (proposed, accepted) -> how often."""

    logits: float = 0.0
    hidden: float = 0.0
    compared: int = 0
    windows: dict[tuple[int, int], int] = field(default_factory=dict)


@torch.inference_mode()
def fresh(plain: PreTrainedModel, text: Sequence[int]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """-> logits [L, V] and the states entering each layer, then the final one, [L, H] each, of one whole text."""
    output = plain(torch.tensor([list(text)]), use_cache=False, output_hidden_states=True)
    return output.logits[0], tuple(states[0] for states in output.hidden_states)


def _far(seen: Tensor, wanted: Tensor) -> float:
    return float((seen - wanted).abs().max())


class TargetSpy(Rejection):
    """The rejection rule, looking at the target's logits and at all of its hidden states."""

    def __init__(self, plain: PreTrainedModel) -> None:
        self.plain, self.worst = plain, Worst()
        self.layers = range(plain.config.num_hidden_layers + 1)
        self.wants = Wants(frozenset(self.layers))

    def verify(self, batch: Batch, draft: Draft, target: TargetView) -> Verdict:
        verdict = super().verify(batch, draft, target)
        for b in range(len(batch)):
            proposed = int(draft.valid[b].sum())
            text = [*batch.text[b, : batch.lengths[b]], *draft.tokens[b, :proposed].tolist()]
            logits, states = fresh(self.plain, text)
            rows = slice(batch.lengths[b] - 1, None)
            self.worst.logits = max(self.worst.logits, _far(target.logits[b, : proposed + 1], logits[rows]))
            for k in self.layers:
                error = _far(target.hidden[k][b, : proposed + 1], states[k][rows])
                self.worst.hidden = max(self.worst.hidden, error)
            self.worst.compared += proposed + 1
            window = proposed, int(verdict.accepted[b])
            self.worst.windows[window] = self.worst.windows.get(window, 0) + 1
        return verdict


class Watched:
    """A length policy that notes every view it is asked about."""

    def __init__(self, policy: LengthPolicy) -> None:
        self.policy, self.limit, self.reads_logits = policy, policy.limit, policy.reads_logits
        self.views: list[DraftView] = []

    def stop(self, view: DraftView) -> tuple[Tensor | None, Notes]:
        self.views.append(view)
        return self.policy.stop(view)


class DraftSpy:
    """A proposer, looked at through the views that it shows the length policy."""

    def __init__(self, proposer: Proposer, plain: PreTrainedModel) -> None:
        self.proposer, self.plain, self.worst = proposer, plain, Worst()
        self.wants, self.weights = proposer.wants, proposer.weights
        self.has_logits, self.stateful = proposer.has_logits, proposer.stateful
        self.gates, self.learns = proposer.gates, proposer.learns
        self.prefill, self.commit, self.keep = proposer.prefill, proposer.commit, proposer.keep

    def propose(self, batch: Batch, length: LengthPolicy) -> Draft:
        watched = Watched(length)
        draft = self.proposer.propose(batch, watched)
        for b in range(len(batch)):
            proposed = int(draft.valid[b].sum())
            text = [*batch.text[b, : batch.lengths[b]], *draft.tokens[b, :proposed].tolist()]
            logits, states = fresh(self.plain, text)
            for view in watched.views[: proposed + 1]:
                at = int(batch.lengths[b]) - 1 + view.depth
                self.worst.logits = max(self.worst.logits, _far(view.logits[b], logits[at]))
                self.worst.hidden = max(self.worst.hidden, _far(view.hidden[b], states[-1][at]))
                self.worst.compared += 1
        return draft


def ragged(count: int, longest: int, vocab: int) -> list[tuple[int, ...]]:
    """Prompts of 1 to `longest` random tokens."""
    rng = np.random.default_rng(0)
    return [tuple(rng.integers(0, vocab, 1 + i % longest).tolist()) for i in range(count)]
