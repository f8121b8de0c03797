"""Pieces that were not made for each other are refused before anything is decoded, or in the first round."""

import pytest
import torch

from tests.decode import learned
from tests.decode.compose import Case
from tests.decode.draws import request
from tests.decode.models import model
from toolkit.acceptance import jointadaspec as joint_acceptance
from toolkit.acceptance.rejection import Rejection
from toolkit.engine.loop import SpecDecoder
from toolkit.engine.types import LengthPolicy, Sampling
from toolkit.errors import UserError
from toolkit.lengths.fixed import Fixed
from toolkit.lengths.jointadaspec import JointAdaSpec
from toolkit.lengths.specdecpp import SpecDecPP
from toolkit.proposers.draft_model import DraftModel
from toolkit.proposers.none import Nothing

FAR = Case("llama", kind="far")
MINE, OTHER = "a" * 64, "b" * 64  # digests of weights


def _joint(made_for: str | None = None, kappa: float = learned.EXACT) -> JointAdaSpec:
    return JointAdaSpec(learned.policy(), learned.solution(kappa), 4, made_for, torch.device("cpu"))


def _rule(kappa: float) -> joint_acceptance.JointAdaSpec:
    solution = learned.solution(kappa)
    return joint_acceptance.JointAdaSpec(learned.policy().note(solution), solution.exact)


def _draft() -> DraftModel:
    return DraftModel(model(FAR.draft).runner, MINE)


def _specdecpp(draft: str, width: int, made_for: str | None = None) -> SpecDecPP:
    return SpecDecPP(learned.acceptance_head(draft, "llama", width), 0.5, 1, 4, made_for)


POLICIES = {
    "specdecpp": lambda made_for: _specdecpp("far", FAR.draft.hidden, made_for),
    "jointadaspec": _joint,
}


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_of_another_draft(name: str) -> None:
    target = model(FAR.target).runner
    with pytest.raises(UserError, match=f"'{name}'.*another draft.*'draft_model'.*{OTHER[:12]}.*{MINE[:12]}"):
        SpecDecoder(target, _draft(), POLICIES[name](OTHER), Rejection())
    for made_for in (MINE, None):
        SpecDecoder(target, _draft(), POLICIES[name](made_for), Rejection())


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_without_a_draft(name: str) -> None:
    with pytest.raises(UserError, match=f"'{name}'.*'none'"):
        SpecDecoder(model(FAR.target).runner, Nothing(), POLICIES[name](None), Rejection())


@pytest.mark.parametrize(
    "length", [_joint(), Fixed(4), _specdecpp("far", FAR.draft.hidden)], ids=lambda p: type(p).__name__
)
def test_lenience_that_nobody_notes(length: LengthPolicy) -> None:
    """Of another kappa, or of no such policy at all: T would be another's, or made up."""
    target = model(FAR.target).runner
    with pytest.raises(UserError, match="'jointadaspec' reads .*kappa=0.*same policy, kappa and order"):
        SpecDecoder(target, _draft(), length, _rule(learned.LOSSY))
    SpecDecoder(target, _draft(), _joint(kappa=learned.LOSSY), _rule(learned.LOSSY))


def test_a_policy_may_be_used_for_its_windows_alone() -> None:
    """Its notes are then read by nobody, and the output is the target's."""
    decoder = SpecDecoder(model(FAR.target).runner, _draft(), _joint(kappa=learned.LOSSY), Rejection())
    [generation] = decoder.generate([request(0)], Sampling(max_new_tokens=4))
    assert generation.lossless


def test_a_head_of_another_width() -> None:
    decoder = SpecDecoder(model(FAR.target).runner, _draft(), _specdecpp("near", 16), Rejection())
    with pytest.raises(UserError, match="width 16.*8"):
        decoder.generate([request(1)], Sampling(max_new_tokens=8))
