"""Parts of a decoder with something wrong with them, for `bugs` to build in. Two are right, and say so."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from tests.decode.models import VOCAB
from toolkit.acceptance import jointadaspec as joint_acceptance
from toolkit.acceptance.rejection import Rejection
from toolkit.engine import loop
from toolkit.engine.cache import SlotCache
from toolkit.engine.emitted import Emitted
from toolkit.engine.loop import SpecDecoder
from toolkit.engine.rng import Purpose, Rng
from toolkit.engine.runner import Runner
from toolkit.engine.sampling import draw, warp
from toolkit.engine.types import Batch, Draft, DraftView, LengthPolicy, Notes, TargetView, Verdict
from toolkit.lengths.fixed import Fixed
from toolkit.lengths.jointadaspec import JointAdaSpec
from toolkit.proposers.draft_model import DraftModel


class DroppingDraft(DraftModel):
    """Candidates that its own law thought unlikely are dropped, with all that follow: after they were seen."""

    def propose(self, batch: Batch, length: LengthPolicy) -> Draft:
        draft = super().propose(batch, length)
        if draft.logq is None:
            return draft
        likely = draft.logq.gather(-1, draft.tokens[..., None]).squeeze(-1).exp() > 0.2
        return replace(draft, valid=draft.valid & likely.long().cumprod(1).bool())


class NewestDropped(DraftModel):
    """Where the policy ends a window, its last candidate goes too: the one whose state made the policy stop."""

    def propose(self, batch: Batch, length: LengthPolicy) -> Draft:
        draft = super().propose(batch, length)
        drafted = draft.valid.sum(1, keepdim=True)
        if draft.tokens.shape[1] == 0:
            return draft
        last = draft.tokens.gather(1, drafted.clamp(min=1) - 1)
        ended = (drafted < length.limit) & ~torch.isin(last, batch.eos)  # by the policy; nobody drafts behind an EOS
        return replace(draft, valid=draft.valid & (torch.arange(draft.tokens.shape[1]) < drafted - ended.long()))


class TwoTemperatures(DraftModel):
    """Samples at one temperature and reports the q of another."""

    drawn, reported = 1.0, 0.7

    def _sample(self, batch: Batch, logits: Tensor, depth: int) -> tuple[Tensor, Tensor]:
        q = warp(logits, replace(batch.sampling, temperature=self.drawn)).exp()
        token = draw(q, batch.rng.uniform(Purpose.DRAFT, depth))
        return token, warp(logits, replace(batch.sampling, temperature=self.reported))


class UnwarpedDraft(TwoTemperatures):
    """No bug: a draft may ignore the temperature, as long as it says so."""

    drawn = reported = 1.0


class ForgetfulDraft(DraftModel):
    """Never feeds itself the last candidate of a window that was fully accepted."""

    def commit(self, batch: Batch, draft: Draft, verdict: Verdict, target: TargetView) -> None:
        self.fed = batch.lengths - 1


class StaleCache(SlotCache):
    """A slot that a verification or draft forward has written is not written again: rejected tokens stay."""

    def __init__(self, rows: int, capacity: int, device: torch.device) -> None:
        super().__init__(rows, capacity, device)
        self._written = torch.zeros(rows, capacity, dtype=torch.bool)

    def begin(self, start: np.ndarray, width: int) -> None:
        super().begin(start, width)
        self._aligned = None
        live = self._written[: len(start)]
        self._frozen = live.gather(1, self.positions)[:, None, :, None]  # [B, 1, n, 1]
        if start.any():  # prefill begins at 0, and pads
            live.scatter_(1, self.positions, True)

    def _write(self, buffer: Tensor, states: Tensor) -> Tensor:
        slots = self.positions[:, None, :, None].expand(states.shape)
        old = buffer[: len(states)].gather(2, slots)
        return super()._write(buffer, torch.where(self._frozen, old, states))

    def keep(self, rows: Tensor) -> None:
        super().keep(rows)
        self._written[: len(rows)] = self._written[rows]


class StaleRunner(Runner):
    def cache(self, rows: int, capacity: int) -> SlotCache:
        return StaleCache(rows, capacity, self.device)


class Peeking(Rejection):
    """Submits a window up to the first candidate that the target likes less than the draft does."""

    def verify(self, batch: Batch, draft: Draft, target: TargetView) -> Verdict:
        if draft.logq is not None:
            picked = draft.tokens[..., None]
            logp = warp(target.logits, batch.sampling)[:, :-1].gather(-1, picked)
            liked = (logp >= draft.logq.gather(-1, picked)).squeeze(-1)
            draft.valid &= liked.long().cumprod(1).bool()
        return super().verify(batch, draft, target)


class Uncompacted(JointAdaSpec):
    """When requests end, the state loses its last rows, whichever they were."""

    def keep(self, rows: Tensor) -> None:
        self.k_prev = self.k_prev[: len(rows)]


class AllPlaces(JointAdaSpec):
    """K_prev counts the places behind the first rejection as well: behind tokens that nobody committed."""

    def observe(self, batch: Batch, draft: Draft, verdict: Verdict, target: TargetView) -> None:
        super().observe(batch, draft, replace(verdict, accepted=draft.valid.sum(1)), target)


class OtherPlaces(joint_acceptance.JointAdaSpec):
    """Each place is verified with the T of the one before."""

    def verify(self, batch: Batch, draft: Draft, target: TargetView) -> Verdict:
        shifted = {name: note.roll(1, dims=1) for name, note in draft.notes.items()}
        return super().verify(batch, replace(draft, notes=shifted), target)


class OneCoin(Rng):
    """A row throws its coin once: for all places, and for all rounds."""

    def __init__(self, keys: Tensor, committed: Tensor) -> None:
        super().__init__(keys, committed)
        self._first = Rng(keys, torch.zeros_like(committed))

    def uniform(self, purpose: Purpose, position: Tensor | int, draw: int = 0) -> Tensor:
        if purpose == Purpose.COIN:
            return self._first.uniform(purpose, torch.zeros_like(position), draw)
        return super().uniform(purpose, position, draw)


class OneStream(Rng):
    """The residual is drawn with the uniform that drew the rejected candidate."""

    def uniform(self, purpose: Purpose, position: Tensor | int, draw: int = 0) -> Tensor:
        return super().uniform(Purpose.DRAFT if purpose == Purpose.RESIDUAL else purpose, position, draw)


class ReusedDraws(Rng):
    """Draft draws belong to a place in the text, whichever round it is drafted in."""

    def __init__(self, keys: Tensor, committed: Tensor) -> None:
        super().__init__(keys, committed)
        self._placed = Rng(keys, torch.zeros_like(committed))
        self._committed = committed

    def uniform(self, purpose: Purpose, position: Tensor | int, draw: int = 0) -> Tensor:
        if purpose == Purpose.DRAFT:
            return self._placed.uniform(purpose, self._committed + position, draw)
        return super().uniform(purpose, position, draw)


class Remembering(Fixed):
    """No bug: drafts no token where the round before had discarded a candidate of the lower half of the vocabulary.

    Having seen discarded candidates is harmless, as long as the draws behind them are not used again.
    """

    reads_logits = True

    def __init__(self, k: int) -> None:
        super().__init__(k)
        self._discarded = torch.empty(0, k, dtype=torch.int64)  # [B, place in the coming window]; -1 = none

    def stop(self, view: DraftView) -> tuple[Tensor, Notes]:
        if len(self._discarded) != len(view.requests):  # the first round of a batch
            self._discarded = torch.full((len(view.requests), self.limit), -1)
        here = self._discarded[:, view.depth]
        return (here >= 0) & (here < VOCAB // 2), {}

    def observe(self, batch: Batch, draft: Draft, verdict: Verdict, target: TargetView) -> None:
        seen = torch.full((len(batch), 2 * self.limit + 1), -1)
        seen[:, : draft.tokens.shape[1]] = draft.tokens.masked_fill(~draft.valid, -1)
        self._discarded = seen.gather(1, verdict.accepted[:, None] + 1 + torch.arange(self.limit))

    def keep(self, rows: Tensor) -> None:
        self._discarded = self._discarded[rows]


class DeafToEos(SpecDecoder):
    """Only the last token of a round can end a generation."""

    def _advance(self, row: loop.Row, given: Emitted, *rest: object) -> bool:
        self._left = len(given.tokens)
        return super()._advance(row, given, *rest)

    def _finish(self, row: loop.Row, token: int, room: int) -> str | None:
        self._left -= 1
        reason = super()._finish(row, token, room)
        return None if reason == "eos" and self._left else reason
