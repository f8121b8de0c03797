"""The gate of Consensus AutoJudge: seen two drafts' laws for the next token, take D1's, take D2's, or ask the target?

The rule compares a few numbers with fixed bounds; the learned gate is a logistic regression with three classes on 17 of
them ("ensemble") or on the five that need no D2 ("d1_only"). Laws are the raw ones at temperature 1, over the target's
ids. A row's `streak` and `since` count tokens since the last one that the target gave: the latest run of those that
both drafts named (d1_only: of D1's own, as nobody knows what D2 would have named), and all.
"""

import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialised
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.files import write_atomic, write_json
from toolkit.nets import _config

CONFIG = "config.json"
WEIGHTS = "gate.safetensors"
KIND = "consensus"
D1, D2, TARGET = range(3)  # what a gate says of a token: whose it is to be
BLOCK, TOP = 64, 8  # tokens that the position is counted in; ranks that are told apart (m)

ENSEMBLE = (
    "same",  # y1 = y2, the drafts' most likely tokens
    "y1_among_d2",  # is y1 among the m best of D2?
    "y2_among_d1",
    "y1_rank_d2",  # 1 = best, m + 1 = not among them; over m + 1
    "y2_rank_d1",
    "p1_y1",
    "p2_y1",
    "p1_y2",
    "p2_y2",
    "margin_1",  # gap of the two largest probabilities
    "margin_2",
    "entropy_1",  # nats
    "entropy_2",
    "divergence",  # Jensen-Shannon of both laws, nats, over the m best of either and the rest as one
    "lead",  # p2(y2) - p1(y1)
    "streak",  # at most m, over m
    "position",  # of the token in its block, over the block
)
D1_ONLY = ("p1_y1", "margin_1", "entropy_1", "streak", "position")
FEATURES = {"ensemble": ENSEMBLE, "d1_only": D1_ONLY}


def ensemble(law1: Tensor, law2: Tensor, streak: Tensor, since: Tensor, top: int, block: int) -> Tensor:
    """Log-probabilities [B, V] of both drafts, [B] streak and since -> [B, 17], float32."""
    p1, p2 = law1.exp(), law2.exp()
    y1, y2 = law1.argmax(-1, keepdim=True), law2.argmax(-1, keepdim=True)
    own1, crossed1 = p1.gather(1, y1), p1.gather(1, y2)
    own2, crossed2 = p2.gather(1, y2), p2.gather(1, y1)
    rank1 = _rank(p2, crossed2, top)  # of y1, in D2
    rank2 = _rank(p1, crossed1, top)
    columns = (
        *(y1 == y2, rank1 <= top, rank2 <= top, rank1 / (top + 1), rank2 / (top + 1)),
        *(own1, crossed2, crossed1, own2, _margin(p1), _margin(p2), _entropy(law1), _entropy(law2)),
        *(_divergence(p1, p2, top), own2 - own1, *_counted(streak, since, top, block)),
    )
    return torch.cat([column.float() for column in columns], dim=1)


def d1_only(law1: Tensor, streak: Tensor, since: Tensor, top: int, block: int) -> Tensor:
    """Log-probabilities [B, V] of D1 -> [B, 5], float32."""
    p1 = law1.exp()
    best = p1.amax(-1, keepdim=True)
    return torch.cat([best, _margin(p1), _entropy(law1), *_counted(streak, since, top, block)], dim=1).float()


def _rank(p: Tensor, own: Tensor, top: int) -> Tensor:
    return (1 + (p > own).sum(-1, keepdim=True)).clamp(max=top + 1)


def _margin(p: Tensor) -> Tensor:
    best = p.topk(2, -1).values
    return best[:, :1] - best[:, 1:]


def _entropy(law: Tensor) -> Tensor:
    """A token of probability 0 adds nothing."""
    return -(law.exp() * law.clamp(min=torch.finfo(law.dtype).min)).sum(-1, keepdim=True)


def _divergence(p1: Tensor, p2: Tensor, top: int) -> Tensor:
    most = min(top, p1.shape[-1])
    best1, best2 = p1.topk(most, -1).indices, p2.topk(most, -1).indices
    twice = (best2[:, :, None] == best1[:, None, :]).any(-1)  # [B, m]: counted already
    cells = []
    for p in (p1, p2):
        chosen = torch.cat([p.gather(1, best1), p.gather(1, best2).masked_fill(twice, 0.0)], dim=1)
        cells.append(torch.cat([chosen, (1 - chosen.sum(1, keepdim=True)).clamp(min=0)], dim=1))
    middle = (cells[0] + cells[1]) / 2
    return sum(torch.xlogy(c, c) - torch.xlogy(c, middle) for c in cells).sum(1, keepdim=True) / 2


def _counted(streak: Tensor, since: Tensor, top: int, block: int) -> tuple[Tensor, Tensor]:
    return streak.clamp(max=top)[:, None] / top, (since % block)[:, None] / block


class RuleGate:
    """Agreement of both drafts, or a D2 that D1 supports; else the target. Bounds as in the public code."""

    features = "ensemble"
    top, block = TOP, BLOCK

    def choose(self, seen: Tensor) -> Tensor:
        """[B, 17] -> [B] int64: D1, D2 or TARGET."""
        at = dict(zip(ENSEMBLE, seen.unbind(1), strict=True))
        surest = torch.minimum(at["margin_1"], at["margin_2"])
        agreed = (at["same"] > 0) & (surest >= 0.10) & (at["divergence"] <= 0.20)
        second = at["y2_rank_d1"] < 2.5 / (TOP + 1)  # y2 is among the two best of D1
        sure = (at["p2_y2"] >= 0.35) & (at["margin_2"] >= at["margin_1"]) & (at["divergence"] <= 0.45)
        supported = second & (sure | (at["p2_y2"] >= at["p1_y1"]))
        return torch.where(agreed, D1, torch.where(supported, D2, TARGET))


@dataclass(frozen=True)
class GateSettings:
    """What a learned gate was made with."""

    features: str  # ensemble | d1_only
    fallback_threshold: float  # the target is asked where the chance that both drafts are wrong is at least this
    top: int = TOP
    block: int = BLOCK


class LearnedGate(nn.Module):
    """Standardised features -> logits of the three classes."""

    mean: Tensor  # [F] float32
    scale: Tensor  # [F] float32: one over the standard deviation
    weight: Tensor  # [3, F] float32
    bias: Tensor  # [3] float32

    def __init__(self, settings: GateSettings) -> None:
        super().__init__()
        self.features, self.top, self.block = settings.features, settings.top, settings.block
        self.settings = settings
        width = len(FEATURES[settings.features])
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.register_buffer("weight", torch.zeros(3, width))
        self.register_buffer("bias", torch.zeros(3))
        self.use(settings.fallback_threshold)

    def use(self, threshold: float) -> None:
        """Another fallback threshold: 0 asks the target always, 1 never."""
        # As odds: a probability in float32 rounds to 1 long before its logit is infinite
        self._odds = (
            -math.inf if threshold == 0 else math.inf if threshold == 1 else math.log(threshold / (1 - threshold))
        )

    def forward(self, seen: Tensor) -> Tensor:
        """[..., F] -> [..., 3]."""
        return (seen - self.mean) * self.scale @ self.weight.T + self.bias

    def choose(self, seen: Tensor) -> Tensor:
        """[B, F] -> [B] int64: TARGET where its chance reaches the threshold, else the likelier of D1 and D2."""
        logits = self(seen)
        drafts = logits[:, :TARGET]
        asks = logits[:, TARGET] - drafts.logsumexp(-1) >= self._odds
        return torch.where(asks, TARGET, drafts.argmax(-1))


Gate = RuleGate | LearnedGate


def save(gate: LearnedGate, directory: Path) -> None:
    """Write gate.safetensors and config.json."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in gate.state_dict().items()}
    directory.mkdir(parents=True, exist_ok=True)
    write_atomic(directory / WEIGHTS, serialised(tensors, {"format": "pt"}))
    write_json(directory / CONFIG, {"kind": KIND} | asdict(gate.settings))


def read(directory: Path) -> LearnedGate:
    """The gate, on the CPU. UserError names the first fault."""
    path = directory / CONFIG
    config = _config.read(path, KIND, "a gate, as train/consensus.py writes it")
    settings = GateSettings(**{field.name: config.get(field.name) for field in fields(GateSettings)})
    threshold = settings.fallback_threshold
    rules = [
        ("features", settings.features, settings.features in (*FEATURES,), f"one of {', '.join(FEATURES)}"),
        (
            "fallback_threshold",
            threshold,
            type(threshold) in (int, float) and 0 <= threshold <= 1,
            "a number from 0 to 1",
        ),
        ("top", settings.top, type(settings.top) is int and settings.top >= 1, "a whole number, 1 or more"),
        ("block", settings.block, type(settings.block) is int and settings.block >= 1, "a whole number, 1 or more"),
    ]
    for key, value, right, expected in rules:
        if not right:
            raise UserError(f"{path}: key '{key}' is {value!r}; expected {expected}. Train the gate again.")
    gate = LearnedGate(settings)
    gate.load_state_dict(_tensors(directory / WEIGHTS, gate.state_dict()))
    return gate


def _tensors(path: Path, expected: dict[str, Tensor]) -> dict[str, Tensor]:
    if not path.is_file():
        raise UserError(f"{path}: missing. A gate is one file of weights beside {CONFIG}; train or copy it again.")
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error}). Copy or train the gate again.") from None
    for name in sorted(expected.keys() | tensors.keys()):
        there, wanted = (list(found[name].shape) if name in found else "none" for found in (tensors, expected))
        if there != wanted:
            raise UserError(
                f"{path}: tensor '{name}' has shape {there}, and {CONFIG} asks for {wanted}. Train the gate again."
            )
        if not tensors[name].isfinite().all():
            raise UserError(f"{path}: tensor '{name}' has values that are no numbers. Train the gate again.")
    return tensors
