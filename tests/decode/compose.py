"""The compositions under test: pieces put together as a recipe would, over the tiny models."""

import zlib
from dataclasses import dataclass, replace
from typing import Literal

import torch

from tests.decode import learned
from tests.decode.heads import drafting
from tests.decode.models import Family, Kind, Recipe, draft_recipe, model, target_recipe
from toolkit.acceptance import jointadaspec as joint_acceptance
from toolkit.acceptance.rejection import Rejection
from toolkit.engine.loop import SpecDecoder
from toolkit.engine.types import AcceptanceRule, LengthPolicy, Proposer, Sampling
from toolkit.lengths.entropy import Entropy
from toolkit.lengths.fixed import Fixed
from toolkit.lengths.jointadaspec import JointAdaSpec
from toolkit.lengths.specdecpp import SpecDecPP
from toolkit.nets.heads import AcceptanceHead
from toolkit.proposers.draft_model import DraftModel
from toolkit.proposers.eagle3 import Eagle3Head
from toolkit.proposers.ngram import NGram
from toolkit.proposers.none import Nothing

MAX_NEW_TOKENS = 12  # no window of up to 4 that can reach tokens 1 to 7 is clipped by it
NGRAM = (1, 3)  # shortest and longest suffix
THRESHOLD = 1.42  # nats of draft entropy; ln 5 = 1.61 is the most there is. Windows of every length occur
THRESHOLD_OF_FOUR = 1.2  # of a draft with four tokens; ln 4 = 1.39

WARPS = {
    "t0.7": Sampling(temperature=0.7, max_new_tokens=MAX_NEW_TOKENS),
    "t1": Sampling(temperature=1.0, max_new_tokens=MAX_NEW_TOKENS),
    "top-k3": Sampling(temperature=1.0, top_k=3, max_new_tokens=MAX_NEW_TOKENS),
    "top-p0.8": Sampling(temperature=1.0, top_p=0.8, max_new_tokens=MAX_NEW_TOKENS),
}

Length = Literal["fixed", "entropy", "specdecpp", "jointadaspec", "jointadaspec-lossy"]
KAPPAS = {"jointadaspec": learned.EXACT, "jointadaspec-lossy": learned.LOSSY}


@dataclass(frozen=True)
class Case:
    """One composition under one sampling. Its name seeds it: nobody chooses a seed."""

    family: Family
    proposer: str = "draft_model"
    kind: Kind | None = None  # of the draft, where there is one
    length: Length = "fixed"
    window: int = 4
    warp: str = "t1"

    @property
    def name(self) -> str:
        parts = (self.proposer, self.kind, self.length, f"k{self.window}", self.warp, self.family)
        return "-".join(part for part in parts if part)

    @property
    def sampling(self) -> Sampling:
        return replace(WARPS[self.warp], seed=zlib.crc32(self.name.encode()))

    @property
    def threshold(self) -> float:
        return THRESHOLD_OF_FOUR if self.proposer == "eagle3" or self.kind == "trimmed" else THRESHOLD

    @property
    def target(self) -> Recipe:
        return target_recipe(self.family)

    @property
    def draft(self) -> Recipe:
        return draft_recipe(self.family, self.kind)

    @property
    def head(self) -> AcceptanceHead:
        """Of SpecDec++: it reads the states of the draft."""
        drafted_by = self.target if self.proposer == "eagle3" else self.draft
        return learned.acceptance_head(self.kind or self.proposer, self.family, drafted_by.hidden)

    def length_policy(self) -> LengthPolicy:
        if self.length == "fixed":
            return Fixed(self.window)
        if self.length == "entropy":
            return Entropy(self.threshold, self.window)
        if self.length == "specdecpp":
            return SpecDecPP(self.head, learned.RISK, 1, self.window)
        solution = learned.solution(KAPPAS[self.length])
        return JointAdaSpec(learned.policy(), solution, self.window, None, torch.device("cpu"))

    def accept(self) -> AcceptanceRule:
        if self.length not in KAPPAS:
            return Rejection()
        solution = learned.solution(KAPPAS[self.length])
        return joint_acceptance.JointAdaSpec(learned.policy().note(solution), solution.exact)

    def propose(self) -> Proposer:
        if self.proposer == "none":
            return Nothing()
        if self.proposer == "ngram":
            return NGram(*NGRAM)
        if self.proposer == "eagle3":
            return Eagle3Head(model(self.target).runner, drafting(self.target).head, drafting(self.target).vocabulary)
        return DraftModel(model(self.draft).runner)

    def decoder(self, accept: AcceptanceRule | None = None) -> SpecDecoder:
        return SpecDecoder(model(self.target).runner, self.propose(), self.length_policy(), accept or self.accept())
