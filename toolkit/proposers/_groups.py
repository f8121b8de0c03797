"""The rows of a batch by the draft that serves them, and the one Draft that comes of all their windows.

A draft is called on a sub-batch of its rows, with their own randomness and their rows of the target's forward, and
keeps its state in the order of these rows. So what it proposes for a row does not depend on who else is in the batch,
while nobody changes drafts: who joins a group has its rows read again, and their length policies begin anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from toolkit.engine.loop import compaction
from toolkit.engine.types import Batch, Chooses, Draft, DraftView, LengthPolicy, Notes, Proposer, TargetView, Verdict


@dataclass(frozen=True)
class Profile:
    """A draft as a router knows it: what drafts, and the policy that ends its windows."""

    name: str
    proposer: Proposer
    length: LengthPolicy
    chooser: Chooses | None = None  # the proposer, where it is several drafts in one
    choice: str | None = None  # which of the chooser's this one is


class Capped:
    """A length policy with a lower limit."""

    def __init__(self, own: LengthPolicy, limit: int) -> None:
        self.own, self.limit = own, limit
        self.reads_logits, self.writes, self.made_for = own.reads_logits, own.writes, own.made_for

    def prefill(self, batch: Batch) -> None:
        self.own.prefill(batch)

    def stop(self, view: DraftView) -> tuple[Tensor | None, Notes]:
        return self.own.stop(view)

    def observe(self, batch: Batch, draft: Draft, verdict: Verdict, target: TargetView) -> None:
        self.own.observe(batch, draft, verdict, target)

    def keep(self, rows: Tensor) -> None:
        self.own.keep(rows)


class Shown(TargetView):
    """Some rows of a target forward, and the first `width` positions of each; taken out where somebody looks."""

    def __init__(self, whole: TargetView, rows: Tensor, layers: frozenset[int], width: int | None) -> None:
        self._whole, self._rows, self._layers, self._width = whole, rows, layers, width

    @property
    def logits(self) -> Tensor | None:
        return None if self._whole.logits is None else self._whole.logits[self._rows, : self._width]

    @property
    def hidden(self) -> dict[int, Tensor]:
        """Of the layers that the draft asked for."""
        shown = self._whole.hidden
        return {layer: shown[layer][self._rows, : self._width] for layer in self._layers & shown.keys()}


class Group:
    """The rows that one proposer serves: `rows` [b] int64 on the host, their places in the batch in its order.

    choices: of a proposer that is several drafts in one, each row's.
    """

    def __init__(self, profile: Profile, rows: Sequence[int], choices: Sequence[str | None]) -> None:
        self.proposer, self.chooser, self.length = profile.proposer, profile.chooser, profile.length
        self.choices = list(choices)
        self.rows = torch.tensor(rows, dtype=torch.int64)

    def prefill(self, batch: Batch, capacity: int, target: TargetView) -> None:
        """These rows begin with this proposer, wherever in their texts they are."""
        own, shown = self._own(batch), self._shown(batch, target, None)
        if self.chooser is None:
            self.proposer.prefill(own, capacity, shown)
        else:
            self.chooser.prefill(own, capacity, shown, self.choices)
        self.length.prefill(own)

    def choose(self, choices: Sequence[str]) -> None:
        """Its rows go on with these of the chooser's drafts."""
        self.choices = list(choices)
        self.chooser.choose(self.choices)

    def propose(self, batch: Batch, limit: int) -> Draft:
        length = self.length if self.length.limit <= limit else Capped(self.length, limit)
        self.window = self.proposer.propose(self._own(batch), length)
        return self.window

    def commit(self, batch: Batch, verdict: Verdict, target: TargetView) -> None:
        if not self._is_all(batch):
            rows = self.rows.to(batch.device)
            notes = {name: counts[rows] for name, counts in verdict.notes.items()}
            verdict = Verdict(verdict.accepted[rows], verdict.next[rows], notes)
        own, shown = self._own(batch), self._shown(batch, target, 1 + self.window.tokens.shape[1])
        self.proposer.commit(own, self.window, verdict, shown)
        self.length.observe(own, self.window, verdict, shown)

    def keep(self, place: Tensor) -> bool:
        """place: [B] old row of the batch -> its new one; -1: it is this group's no more -> whether a row is left."""
        now = place[self.rows]
        local = compaction((now < 0).tolist())
        if len(local) < len(self.rows):
            self.proposer.keep(local)
            self.length.keep(local)
            self.choices = [self.choices[row] for row in local.tolist()]
        self.rows = now[local]
        return len(local) > 0

    def _own(self, batch: Batch) -> Batch:
        return batch if self._is_all(batch) else batch.select(self.rows)

    def _shown(self, batch: Batch, target: TargetView, width: int | None) -> TargetView:
        if self._is_all(batch):
            return target
        return Shown(target, self.rows.to(batch.device), self.proposer.wants.target_layers, width)

    def _is_all(self, batch: Batch) -> bool:
        """Its rows are the batch as it is: nothing has to be taken out."""
        return len(self.rows) == len(batch) and torch.equal(self.rows, torch.arange(len(batch)))


def merged(batch: Batch, groups: Sequence[Group]) -> Draft:
    """The windows of all groups as one, ragged: [B, N] of the widest.

    Without notes, steps and vocabulary: each draft has its own, which its own length policy is given, and a rule that
    reads them is of one draft.
    """
    width = max(group.window.tokens.shape[1] for group in groups)
    if width == 0:
        return Draft.empty(batch)
    [only, *others] = groups
    if not others and torch.equal(only.rows, torch.arange(len(batch))):
        return replace(only.window, notes={}, steps=(), vocabulary=None)
    shape, device = (len(batch), width), batch.device
    tokens = torch.zeros(shape, dtype=torch.int64, device=device)
    valid = torch.zeros(shape, dtype=torch.bool, device=device)
    onehot = torch.ones(len(batch), dtype=torch.bool, device=device)
    logq = None
    for group in groups:
        window, rows = group.window, group.rows.to(device)
        drafted = window.tokens.shape[1]
        tokens[rows, :drafted], valid[rows, :drafted], onehot[rows] = window.tokens, window.valid, window.onehot
        if window.logq is not None:
            if logq is None:
                logq = window.logq.new_zeros(*shape, window.logq.shape[-1])  # never read where a row has no candidate
            logq[rows, :drafted] = window.logq
    return Draft(tokens, valid, onehot, logq)
