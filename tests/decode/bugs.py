"""Bugs that speculative decoders have had, planted one at a time by replacing a part of the toolkit.

Each is a function of (monkeypatch, case) that returns a decoder with the bug in it. Never a flag in the toolkit: what
ships has no way to be wrong on purpose.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.decode import compose, learned
from tests.decode.broken import (
    AllPlaces,
    DeafToEos,
    DroppingDraft,
    ForgetfulDraft,
    NewestDropped,
    OneCoin,
    OneStream,
    OtherPlaces,
    Peeking,
    Remembering,
    ReusedDraws,
    StaleCache,
    StaleRunner,
    TwoTemperatures,
    Uncompacted,
    UnwarpedDraft,
)
from tests.decode.compose import KAPPAS, Case
from tests.decode.models import build, model
from toolkit.acceptance import _chain, rejection
from toolkit.acceptance.rejection import Rejection
from toolkit.engine import loop
from toolkit.engine.loop import SpecDecoder
from toolkit.engine.runner import Runner
from toolkit.engine.sampling import warp
from toolkit.engine.types import Batch, Draft, Sampling, Verdict
from toolkit.engine.vocabulary import NEVER, Vocabulary
from toolkit.proposers import eagle3
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


def _drafting(proposer: type[DraftModel], case: Case) -> SpecDecoder:
    draft = proposer(model(case.draft).runner)
    return SpecDecoder(model(case.target).runner, draft, case.length_policy(), Rejection())


def candidate_dropped(patch: pytest.MonkeyPatch, case: Case) -> SpecDecoder:
    """A candidate is dropped after it was seen."""
    return _drafting(DroppingDraft, case)


def newest_dropped(patch: pytest.MonkeyPatch, case: Case) -> SpecDecoder:
    """A policy that looked at the newest candidate and stopped drops it."""
    return _drafting(NewestDropped, case)


def two_temperatures(patch: pytest.MonkeyPatch, case: Case) -> SpecDecoder:
    """The draft is sampled at one temperature, and its q reported at another."""
    return _drafting(TwoTemperatures, case)


def unwarped_draft(patch: pytest.MonkeyPatch, case: Case) -> SpecDecoder:
    """No bug: unwarped in both places."""
    return _drafting(UnwarpedDraft, case)


# Policies that look, and policies that remember


def peeking(patch: pytest.MonkeyPatch, case: Case) -> SpecDecoder:
    """What is submitted depends on the target's law for it."""
    return case.decoder(Peeking())


def state_not_compacted(patch: pytest.MonkeyPatch, case: Case) -> SpecDecoder:
    """K_prev stays where it was when rows move."""
    patch.setattr(compose, "JointAdaSpec", Uncompacted)
    return case.decoder()


def k_prev_of_all_places(patch: pytest.MonkeyPatch, case: Case) -> SpecDecoder:
    """K_prev reads laws behind discarded candidates: no bias, but another policy than the one that was solved."""
    patch.setattr(compose, "JointAdaSpec", AllPlaces)
    return case.decoder()


def lenience_of_place_before(patch: pytest.MonkeyPatch, case: Case) -> SpecDecoder:
    """The T of another place."""
    solution = learned.solution(KAPPAS[case.length])
    return case.decoder(OtherPlaces(learned.policy().note(solution), solution.exact))


# Vocabularies of a draft's own


def untranslated_tokens(patch: pytest.MonkeyPatch, case: Case) -> SpecDecoder:
    """The draft's ids are proposed as if they were the target's; its law is spread as it should be."""
    patch.setattr(Vocabulary, "tokens", lambda vocabulary, draft_ids: draft_ids)
    return case.decoder()


def law_not_spread(patch: pytest.MonkeyPatch, case: Case) -> SpecDecoder:
    """The draft's law is padded to the target's width: its probabilities stand at other tokens than were drawn."""

    def padded(vocabulary: Vocabulary, logq: Tensor) -> Tensor:
        return torch.nn.functional.pad(logq, (0, vocabulary.size - len(vocabulary)), value=NEVER)

    patch.setattr(Vocabulary, "spread", padded)
    return case.decoder()


def missing_tokens_shared_in(patch: pytest.MonkeyPatch, case: Case) -> SpecDecoder:
    """A token that the draft never draws is given the mean probability of the others, as if it had been drawable."""
    spread = Vocabulary.spread

    def filled(vocabulary: Vocabulary, logq: Tensor) -> Tensor:
        q = spread(vocabulary, logq).exp()
        return torch.where(vocabulary.mask(), q, q.sum(-1, keepdim=True) / len(vocabulary)).log()

    patch.setattr(Vocabulary, "spread", filled)
    return case.decoder()


# Caches and positions


def stale_target_slot(patch: pytest.MonkeyPatch, case: Case) -> SpecDecoder:
    """A rejected candidate's key and value stay in the target's cache."""
    return SpecDecoder(StaleRunner(build(case.target)), case.propose(), case.length_policy(), Rejection())


def stale_draft_slot(patch: pytest.MonkeyPatch, case: Case) -> SpecDecoder:
    """A rejected candidate's key and value stay in the draft's cache."""
    proposer = DraftModel(StaleRunner(build(case.draft)))
    return SpecDecoder(model(case.target).runner, proposer, case.length_policy(), Rejection())


def stale_head_slot(patch: pytest.MonkeyPatch, case: Case) -> SpecDecoder:
    """What an EAGLE head wrote from its own states stays, when the target's are known."""
    patch.setattr(eagle3, "SlotCache", StaleCache)
    return case.decoder()


def unfed_candidate(patch: pytest.MonkeyPatch, case: Case) -> SpecDecoder:
    """After a fully accepted window, the draft is never fed its own last candidate."""

    return _drafting(ForgetfulDraft, case)


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


def remembering(patch: pytest.MonkeyPatch, case: Case) -> SpecDecoder:
    """No bug: the policy alone."""
    return SpecDecoder(model(case.target).runner, case.propose(), Remembering(case.window), Rejection())


def reused_draws(patch: pytest.MonkeyPatch, case: Case) -> SpecDecoder:
    """A draft draw comes again in the next round, under a policy that has seen the candidate it gave."""
    patch.setattr(loop, "Rng", ReusedDraws)
    return remembering(patch, case)


def one_coin(patch: pytest.MonkeyPatch, case: Case) -> SpecDecoder:
    """A coin comes again, in the same round and in later ones, under a policy that knows how it fell."""
    patch.setattr(loop, "Rng", OneCoin)
    return case.decoder()


def one_stream(patch: pytest.MonkeyPatch, case: Case) -> SpecDecoder:
    """One stream of random numbers for draft and residual."""
    patch.setattr(loop, "Rng", OneStream)
    return case.decoder()


def rows_share_randomness(patch: pytest.MonkeyPatch, case: Case) -> SpecDecoder:
    """Every row of a batch draws the same numbers."""
    patch.setattr(loop, "request_keys", lambda seed, requests, samples: torch.full_like(requests, seed))
    return case.decoder()


# The loop


def eos_ignored_in_window(patch: pytest.MonkeyPatch, case: Case) -> SpecDecoder:
    """An EOS among the accepted candidates does not end the generation."""
    return DeafToEos(model(case.target).runner, case.propose(), case.length_policy(), Rejection())
