"""Bugs that speculative decoders have had, planted one at a time by replacing a part of the toolkit.

Each is a function of (monkeypatch, case) that returns a decoder with the bug in it. Never a flag in the toolkit: what
ships has no way to be wrong on purpose.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.decode.compose import Case
from tests.decode.models import VOCAB, build, model
from toolkit.acceptance import _chain, rejection
from toolkit.acceptance.rejection import Rejection
from toolkit.engine import loop
from toolkit.engine.cache import SlotCache
from toolkit.engine.loop import SpecDecoder
from toolkit.engine.rng import Purpose, Rng
from toolkit.engine.runner import Runner
from toolkit.engine.sampling import draw, warp
from toolkit.engine.types import Batch, Draft, DraftView, LengthPolicy, Notes, Sampling, TargetView, Verdict
from toolkit.lengths.fixed import Fixed
from toolkit.proposers.draft_model import DraftModel

Bug = Callable[[pytest.MonkeyPatch, Case], SpecDecoder]


# Acceptance


def residual_skipped(patch: pytest.MonkeyPatch, case: Case) -> SpecDecoder:
    """After a rejection p itself is drawn from."""
    patch.setattr(_chain, "_residual", lambda draft, accepted, p: p)
    return case.decoder()


def residual_absolute(patch: pytest.MonkeyPatch, case: Case) -> SpecDecoder:
    """The correction is drawn from |p - q|."""

    def absolute(draft: Draft, accepted: Tensor, p: Tensor) -> Tensor:
        at = accepted.clamp(max=draft.tokens.shape[1] - 1)[:, None, None].expand(-1, 1, p.shape[-1])
        return (p - draft.logq.gather(1, at).squeeze(1).exp()).abs()

    patch.setattr(_chain, "_residual", absolute)
    return case.decoder()


def bonus_from_row_before(patch: pytest.MonkeyPatch, case: Case) -> SpecDecoder:
    """The bonus token is drawn from target row k-1, the law of the last candidate itself."""

    def conclude(batch: Batch, draft: Draft, accept: Tensor, logp: Tensor) -> Verdict:
        accepted = _chain.prefix(draft, accept)
        full = (accepted == draft.valid.sum(1)) & (accepted > 0)
        shifted = torch.cat([logp[:, :1], logp[:, :-1]], dim=1)
        last = torch.arange(logp.shape[1], device=logp.device) == accepted[:, None]  # [B, 1+N]
        return _chain.conclude_sampled(
            batch, draft, accept, torch.where((last & full[:, None])[..., None], shifted, logp)
        )

    patch.setattr(rejection, "conclude_sampled", conclude)
    return case.decoder()


def accept_after_rejection(patch: pytest.MonkeyPatch, case: Case) -> SpecDecoder:
    """As many candidates are kept as pass, whether or not one before them was rejected."""
    patch.setattr(_chain, "prefix", lambda draft, accept: (accept & draft.valid).long().sum(1))
    return case.decoder()


def target_unwarped(patch: pytest.MonkeyPatch, case: Case) -> SpecDecoder:
    """Ratios and residuals use the target's raw law."""
    patch.setattr(rejection, "warp", lambda logits, sampling: logits.log_softmax(-1))
    return case.decoder()


def top_p_not_renormalised(patch: pytest.MonkeyPatch, case: Case) -> SpecDecoder:
    """p loses its tail at top-p, and what is left keeps a mass below 1."""

    def cut(logits: Tensor, sampling: Sampling) -> Tensor:
        whole = warp(logits, replace(sampling, top_p=1.0))
        return torch.where(warp(logits, sampling).isneginf(), float("-inf"), whole)

    patch.setattr(rejection, "warp", cut)
    return case.decoder()


# Drafting


class DroppingDraft(DraftModel):
    """Candidates that its own law thought unlikely are dropped, with all that follow: after they were seen."""

    def propose(self, batch: Batch, length: LengthPolicy) -> Draft:
        draft = super().propose(batch, length)
        if draft.logq is None:
            return draft
        likely = draft.logq.gather(-1, draft.tokens[..., None]).squeeze(-1).exp() > 0.2
        return replace(draft, valid=draft.valid & likely.long().cumprod(1).bool())


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


def _drafting(proposer: type[DraftModel], case: Case) -> SpecDecoder:
    draft = proposer(model(case.draft).runner)
    return SpecDecoder(model(case.target).runner, draft, case.length_policy(), Rejection())


def candidate_dropped(patch: pytest.MonkeyPatch, case: Case) -> SpecDecoder:
    """A candidate is dropped after it was seen."""
    return _drafting(DroppingDraft, case)


def two_temperatures(patch: pytest.MonkeyPatch, case: Case) -> SpecDecoder:
    """The draft is sampled at one temperature, and its q reported at another."""
    return _drafting(TwoTemperatures, case)


def unwarped_draft(patch: pytest.MonkeyPatch, case: Case) -> SpecDecoder:
    """No bug: unwarped in both places."""
    return _drafting(UnwarpedDraft, case)


# Caches and positions


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


def stale_target_slot(patch: pytest.MonkeyPatch, case: Case) -> SpecDecoder:
    """A rejected candidate's key and value stay in the target's cache."""
    return SpecDecoder(StaleRunner(build(case.target)), case.propose(), case.length_policy(), Rejection())


def stale_draft_slot(patch: pytest.MonkeyPatch, case: Case) -> SpecDecoder:
    """A rejected candidate's key and value stay in the draft's cache."""
    proposer = DraftModel(StaleRunner(build(case.draft)))
    return SpecDecoder(model(case.target).runner, proposer, case.length_policy(), Rejection())


def unfed_candidate(patch: pytest.MonkeyPatch, case: Case) -> SpecDecoder:
    """After a fully accepted window, the draft is never fed its own last candidate."""

    class Forgetful(DraftModel):
        def commit(self, batch: Batch, draft: Draft, verdict: Verdict, target: TargetView) -> None:
            self.fed = batch.lengths - 1

    return _drafting(Forgetful, case)


def window_positions_off(patch: pytest.MonkeyPatch, case: Case) -> SpecDecoder:
    """In the verification forward, and only there, candidates are told positions one too high."""
    target = build(case.target)

    def shift(
        _module: torch.nn.Module, args: tuple[()], kwargs: dict[str, object]
    ) -> tuple[tuple[()], dict[str, object]]:
        positions = kwargs["position_ids"].clone()
        positions[:, 1:] += 1
        return args, kwargs | {"position_ids": positions}

    target.register_forward_pre_hook(shift, with_kwargs=True)  # prefill calls the decoder without its head
    return SpecDecoder(Runner(target), case.propose(), case.length_policy(), Rejection())


# Randomness


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


def remembering(patch: pytest.MonkeyPatch, case: Case) -> SpecDecoder:
    """No bug: the policy alone."""
    return SpecDecoder(model(case.target).runner, case.propose(), Remembering(case.window), Rejection())


def reused_draws(patch: pytest.MonkeyPatch, case: Case) -> SpecDecoder:
    """A draft draw comes again in the next round, under a policy that has seen the candidate it gave."""
    patch.setattr(loop, "Rng", ReusedDraws)
    return remembering(patch, case)


def one_stream(patch: pytest.MonkeyPatch, case: Case) -> SpecDecoder:
    """One stream of random numbers for draft and residual."""
    patch.setattr(loop, "Rng", OneStream)
    return case.decoder()


def rows_share_randomness(patch: pytest.MonkeyPatch, case: Case) -> SpecDecoder:
    """Every row of a batch draws the same numbers."""
    patch.setattr(loop, "request_keys", lambda seed, requests, samples: torch.full_like(requests, seed))
    return case.decoder()


# The loop


class DeafToEos(SpecDecoder):
    """Only the last token of a round can end a generation."""

    def _advance(self, row: loop.Row, emitted: loop.Emitted, *rest: object) -> bool:
        self._left = len(emitted.tokens)
        return super()._advance(row, emitted, *rest)

    def _finish(self, row: loop.Row, token: int, room: int) -> str | None:
        self._left -= 1
        reason = super()._finish(row, token, room)
        return None if reason == "eos" and self._left else reason


def eos_ignored_in_window(patch: pytest.MonkeyPatch, case: Case) -> SpecDecoder:
    """An EOS among the accepted candidates does not end the generation."""
    return DeafToEos(model(case.target).runner, case.propose(), case.length_policy(), Rejection())
