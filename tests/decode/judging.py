"""Random judges, and decoding with one by brute force: whole texts, no cache, no batch."""

import functools

import numpy as np
import torch
from scipy.special import entr, log_softmax

from tests.decode import exact, greedy
from tests.decode.exact import Prompt
from tests.decode.models import EOS, Recipe, model
from toolkit.acceptance.autojudge import AutoJudge
from toolkit.nets.judge import COLUMNS, FEATURES, Judge, Logistic

LAYERS = {"llama": 1, "qwen3": 1, "gpt2": 2}


@functools.cache
def judge(target: Recipe, draft: Recipe | None, features: tuple[str, ...]) -> Judge:
    """Weights drawn at random: about half of all tokens are important at logit 0."""
    hidden = {name: recipe.hidden for name, recipe in (("target", target), ("draft", draft)) if name in features}
    width = sum(hidden.values()) + len(COLUMNS) * ("distribution" in features)
    generator = torch.Generator().manual_seed(width)
    mean, scale = torch.zeros(width), torch.ones(width)
    if "distribution" in features:
        mean[-len(COLUMNS) :] = torch.tensor([-2.0, -1.0, 1.2, 1.2, 0.5])
    net = Logistic(mean, scale, torch.randn(width, generator=generator), torch.zeros(()))
    return Judge(net, "logistic", features, hidden, 0.9, ())


def rule(target: Recipe, draft: Recipe | None = None, *, features: tuple[str, ...] = ("target",), limit: float = 0.0):
    return AutoJudge(judge(target, draft, features), limit, LAYERS[target.family])


def unimportant(made: Judge, limit: float, parts: dict[str, np.ndarray]) -> np.ndarray:
    """[n, .] features by name -> [n] bool, by the definition."""
    joined = np.concatenate([parts[name] for name in FEATURES if name in made.features], 1)
    net = {name: tensor.double().numpy() for name, tensor in made.net.named_buffers()}
    return (joined - net["mean"]) / net["scale"] @ net["weight"] + net["bias"] < limit


def speculative(
    target: Recipe, draft: Recipe, made: Judge, limit: float, prompt: Prompt, room: int, window: int
) -> tuple[greedy.Reference, dict[str, int]]:
    """Greedy; a mismatch stands where it is unimportant -> what is emitted, and the counters."""
    done, counts = greedy.Reference(), {"judge_total": 0, "judge_accepted": 0, "judge_rejected": 0}
    while len(done.tokens) < room and EOS not in done.tokens:
        text = (*prompt, *done.tokens)
        drafted: list[int] = []
        while len(drafted) < min(window, room - len(done.tokens) - 1) and EOS not in drafted:
            drafted.append(int(_logits(draft, (*text, *drafted)).argmax()))
        accepted = 0
        while accepted < len(drafted):
            before, token = (*text, *drafted[:accepted]), drafted[accepted]
            if token != _logits(target, before).argmax():
                counts["judge_total"] += 1
                last = accepted == len(drafted) - 1 and "draft" in made.features
                if last or not unimportant(made, limit, _parts(target, draft, before, token)):
                    counts["judge_rejected"] += 1
                    break
                counts["judge_accepted"] += 1
            accepted += 1
        done.tokens += drafted[:accepted]
        done.windows.append((len(drafted), accepted))
        if EOS not in done.tokens:
            done.tokens.append(int(_logits(target, (*text, *drafted[:accepted])).argmax()))
    return done, counts


def states(recipe: Recipe, texts: np.ndarray) -> np.ndarray:
    """[n, L] -> [n, H] of the last tokens."""
    return exact.states(model(recipe).plain, texts).double().numpy()


def distribution(logits_p: np.ndarray, logits_q: np.ndarray) -> np.ndarray:
    """Raw logits [n, V] of both models -> [n, V, 5] what a judge is told of either law, for every token."""
    logp, logq = log_softmax(logits_p, -1), log_softmax(logits_q, -1)
    p, q = np.exp(logp), np.exp(logq)
    numbers = {"entropy_p": entr(p), "entropy_q": entr(q), "kl": q * (logq - logp)}
    columns = {name: np.broadcast_to(each.sum(-1, keepdims=True), p.shape) for name, each in numbers.items()}
    columns |= {"log_p": logp, "log_q": logq}
    return np.stack([columns[name] for name in COLUMNS], -1)


def _parts(target: Recipe, draft: Recipe, before: Prompt, token: int) -> dict[str, np.ndarray]:
    text = np.array([(*before, token)])
    return {
        "target": states(target, text),
        "draft": states(draft, text),
        "distribution": distribution(*(_logits(recipe, before)[None] for recipe in (target, draft)))[:, token],
    }


@functools.cache
def _logits(recipe: Recipe, text: Prompt) -> np.ndarray:
    return exact.logits(model(recipe).plain, np.array([text]))[0]
