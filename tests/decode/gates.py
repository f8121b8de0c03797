"""Consensus AutoJudge over tiny models: three gates, decoders with them, and the same text token by token."""

import numpy as np
import torch

from tests.decode import consensus
from tests.decode.caches import ragged
from tests.decode.consensus import Trio
from tests.decode.models import TARGETS, VOCAB, Family, draft_recipe, model
from toolkit.acceptance.gated import Gated
from toolkit.engine.loop import SpecDecoder
from toolkit.engine.types import AcceptanceRule, Generation, Request, Sampling
from toolkit.lengths.fixed import Fixed
from toolkit.nets.gate import FEATURES, Gate, GateSettings, LearnedGate, RuleGate
from toolkit.proposers.consensus import Consensus, Follower

LIMIT = 14
PROMPTS = ragged(16, longest=9, vocab=VOCAB)
REQUESTS = [Request(i, prompt) for i, prompt in enumerate(PROMPTS)]
SAMPLING = Sampling(max_new_tokens=LIMIT)
THRESHOLD = 0.4
TOP, BLOCK = 3, 5  # of the learned gates, so that ranks are cut and positions begin again
GATES = ("rule", "ensemble", "d1_only")
DRAFTS = ("far", "trimmed")


def gate_of(name: str) -> Gate:
    """The rule, or random weights: decisions that depend on every feature."""
    if name == "rule":
        return RuleGate()
    gate = LearnedGate(GateSettings(name, THRESHOLD, TOP, BLOCK))
    random = np.random.default_rng(5)
    gate.weight.copy_(torch.from_numpy(random.normal(size=(3, len(FEATURES[name])))))
    gate.mean.fill_(0.4)
    gate.scale.fill_(2.0)
    return gate


def trio(family: Family, draft: str = "far") -> Trio:
    return Trio(TARGETS[family], draft_recipe(family, draft), draft_recipe(family, "near"))


def proposer(one: Trio, gate: Gate, most: int = 64, *, escalation: bool = True) -> Consensus:
    d1, d2 = (Follower(model(recipe).runner) for recipe in (one.d1, one.d2))
    needed = escalation or gate.features == "ensemble"
    return Consensus(d1, d2 if needed else None, gate, escalation, most)


def decoder(one: Trio, proposed: Consensus, accept: AcceptanceRule | None = None, length: int = 64, **options: object):
    return SpecDecoder(model(one.target).runner, proposed, Fixed(length), accept or Gated(), **options)


def reference(one: Trio, name: str, prompt: tuple[int, ...], limit: int = LIMIT, **options) -> consensus.Reference:
    alone = {"alone": name == "d1_only"}
    if name == "rule":
        return consensus.decode(one, prompt, limit, consensus.rule, **options)
    choose = consensus.learned(gate_of(name), THRESHOLD)
    return consensus.decode(one, prompt, limit, choose, top=TOP, block=BLOCK, **alone, **options)


def essence(generation: Generation) -> tuple[object, ...]:
    return (
        generation.id,
        generation.tokens,
        generation.windows,
        generation.rounds,
        generation.counters,
        generation.finish,
    )
