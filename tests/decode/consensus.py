"""Consensus AutoJudge by its text (methods: A6): token by token, each from the whole text encoded anew, in one row."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.special import log_softmax, logsumexp
from transformers import PreTrainedModel

from tests.decode import exact
from tests.decode.exact import Prompt
from tests.decode.models import EOS, Recipe, model
from toolkit.nets.gate import D1, D1_ONLY, D2, TARGET, LearnedGate

Numbers = dict[str, float]  # a feature's name -> its value


def features(law1: np.ndarray, law2: np.ndarray, streak: int, since: int, top: int, block: int) -> Numbers:
    """The 17 numbers of one token, from log-laws [V] in float64, with sets and lists."""
    p1, p2 = np.exp(law1), np.exp(law2)
    best1, best2 = (sorted(range(len(p)), key=lambda token, p=p: -p[token]) for p in (p1, p2))
    y1, y2 = best1[0], best2[0]
    support = sorted({*best1[:top], *best2[:top]})
    cells = [[*(p[token] for token in support), max(0.0, 1 - sum(p[token] for token in support))] for p in (p1, p2)]
    middle = [(a + b) / 2 for a, b in zip(*cells, strict=True)]
    divergence = sum(a * math.log(a / m) for cell in cells for a, m in zip(cell, middle, strict=True) if a > 0) / 2
    entropy1, entropy2 = (-sum(x * math.log(x) for x in p if x > 0) for p in (p1, p2))
    return {
        "same": float(y1 == y2),
        "y1_among_d2": float(y1 in best2[:top]),
        "y2_among_d1": float(y2 in best1[:top]),
        "y1_rank_d2": min(best2.index(y1) + 1, top + 1) / (top + 1),
        "y2_rank_d1": min(best1.index(y2) + 1, top + 1) / (top + 1),
        "p1_y1": p1[y1],
        "p2_y1": p2[y1],
        "p1_y2": p1[y2],
        "p2_y2": p2[y2],
        "margin_1": p1[y1] - p1[best1[1]],
        "margin_2": p2[y2] - p2[best2[1]],
        "entropy_1": entropy1,
        "entropy_2": entropy2,
        "divergence": divergence,
        "lead": p2[y2] - p1[y1],
        "streak": min(streak, top) / top,
        "position": since % block / block,
    }


def rule(at: Numbers) -> int:
    """The rule gate; m = 8."""
    if at["same"] and min(at["margin_1"], at["margin_2"]) >= 0.10 and at["divergence"] <= 0.20:
        return D1
    second = round(at["y2_rank_d1"] * 9) <= 2
    sure = at["p2_y2"] >= 0.35 and at["margin_2"] >= at["margin_1"] and at["divergence"] <= 0.45
    return D2 if second and (sure or at["p2_y2"] >= at["p1_y1"]) else TARGET


def learned(gate: LearnedGate, threshold: float) -> Callable[[Numbers], int]:
    """A learned gate's decisions, in float64."""
    numbers = {name: tensor.double().numpy() for name, tensor in gate.state_dict().items()}

    def choose(at: Numbers) -> int:
        seen = np.array([at[name] for name in (D1_ONLY if gate.features == "d1_only" else at)])
        logits = numbers["weight"] @ ((seen - numbers["mean"]) * numbers["scale"]) + numbers["bias"]
        if math.exp(logits[TARGET] - logsumexp(logits)) >= threshold:
            return TARGET
        return int(logits[:TARGET].argmax())

    return choose


@dataclass
class Reference:
    """What a decoder should return for one request."""

    tokens: list[int] = field(default_factory=list)
    source: list[int] = field(default_factory=list)  # whose each token is
    windows: list[tuple[int, int]] = field(default_factory=list)
    seen: list[Numbers] = field(default_factory=list)  # what the gate was shown of each token
    counters: dict[str, int] = field(default_factory=dict)
    lost: float = 0.0  # sum of 1 - p(x) / max p over the drafts' tokens
    calls: list[int] = field(default_factory=list)  # tokens that there were at each call of the target


@dataclass(frozen=True)
class Trio:
    """Target, D1 and D2."""

    target: Recipe
    d1: Recipe
    d2: Recipe


def decode(
    trio: Trio,
    prompt: Prompt,
    limit: int,
    gate: Callable[[Numbers], int],
    *,
    alone: bool = False,
    escalation: bool = True,
    most: int = 64,
    top: int = 8,
    block: int = 64,
) -> Reference:
    """alone: the gate looks at D1 only. most: tokens a window."""
    names = ("d1", "d2", "fallback", "seen", "changed", "d1_calls", "d2_calls")
    done = Reference(counters={f"gate_{name}": 0 for name in names})
    streak = since = window = changed = 0
    while len(done.tokens) < limit and EOS not in done.tokens:
        text = (*prompt, *done.tokens)
        law1, law2 = (log_softmax(said(one, text)) for one in (trio.d1, trio.d2))
        p = said(trio.target, text)
        done.seen.append(features(law1, law2, streak, since, top, block))
        choice = gate(done.seen[-1])
        if choice == D2 and not escalation:
            choice = TARGET
        done.source.append(choice)
        done.counters["gate_d1_calls"] += 1
        done.counters["gate_d2_calls"] += not alone or choice == D2
        if choice == TARGET:
            done.tokens.append(int(p.argmax()))
            done.windows.append((window, window))
            done.calls.append(len(text))
            done.counters["gate_fallback"] += 1
            done.counters["gate_seen"] += window
            done.counters["gate_changed"] += changed
            streak = since = window = changed = 0
            continue
        token = int((law1 if choice == D1 else law2).argmax())
        done.tokens.append(token)
        done.counters["gate_d1" if choice == D1 else "gate_d2"] += 1
        done.lost += 1 - math.exp(p[token] - p.max())
        changed += token != p.argmax()
        agreed = choice == D1 if alone else law1.argmax() == law2.argmax()
        streak, since, window = streak + 1 if agreed else 0, since + 1, window + 1
        if window == most:
            done.windows.append((window, window))
            window = changed = 0
    if window:
        done.windows.append((window, window))
    return done


@functools.cache
def said(recipe: Recipe, text: Prompt) -> np.ndarray:
    """Raw logits [V] of the token behind a whole text."""
    scores = _plain(model(recipe).plain, text)
    return exact.spread(scores[:, recipe.tokens], recipe.tokens)[0] if recipe.tokens else scores[0]


def _plain(plain: PreTrainedModel, text: Prompt) -> np.ndarray:
    return exact.logits(plain, np.array([text]))
