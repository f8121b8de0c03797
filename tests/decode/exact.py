"""The exact law of what an autoregressive model emits, by enumeration of every continuation.

Independent of the toolkit on purpose: plain forwards on whole prefixes without a cache, and its own warp, in
float64. Contexts are the continuations without EOS; the A^d of depth d are in lexicographic order, so the child of
context c by token a has index c * A + a. EOS is an outcome, and absorbing.
"""

import functools
import itertools

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from tests.decode.models import ALIVE, EOS, VOCAB, Recipe, model
from toolkit.engine.types import Sampling

Prompt = tuple[int, ...]
Law = list[np.ndarray]  # by depth: [A^d, V], the law of the next token in each context

CHUNK = 8192  # contexts a forward


def contexts(depth: int) -> np.ndarray:
    """[A^depth, depth] every continuation of that many tokens."""
    return np.array(list(itertools.product(range(ALIVE), repeat=depth)), dtype=np.int64).reshape(ALIVE**depth, depth)


def continued(prompt: Prompt, depth: int) -> np.ndarray:
    """[A^depth, L + depth] the prompt with every continuation of that many tokens behind it."""
    tails = contexts(depth)
    heads = np.tile(np.array(prompt, dtype=np.int64), (len(tails), 1))
    return np.concatenate([heads, tails], axis=1)


@torch.inference_mode()
def logits(plain: PreTrainedModel, prefixes: np.ndarray) -> np.ndarray:
    """[n, L] whole prefixes -> [n, V] raw logits of the next token, float64."""
    parts = torch.from_numpy(prefixes).split(CHUNK)
    return torch.cat([plain(part, use_cache=False).logits[:, -1] for part in parts]).double().numpy()


@torch.inference_mode()
def states(plain: PreTrainedModel, prefixes: np.ndarray) -> Tensor:
    """[n, L] whole prefixes -> [n, H] the last token's state after the final norm."""
    parts = torch.from_numpy(prefixes).split(CHUNK)
    return torch.cat(
        [plain(part, use_cache=False, output_hidden_states=True).hidden_states[-1][:, -1] for part in parts]
    )


@functools.cache
def raw(recipe: Recipe, prompt: Prompt, depth: int) -> np.ndarray:
    """[A^depth, V] raw logits after every continuation of `depth` tokens."""
    scores = logits(model(recipe).plain, continued(prompt, depth))
    return spread(scores[:, recipe.tokens], recipe.tokens) if recipe.tokens else scores


def spread(scores: np.ndarray, tokens: tuple[int, ...]) -> np.ndarray:
    """[n, D] raw logits of a draft that has only these tokens -> [n, V], -inf for the others."""
    whole = np.full((len(scores), VOCAB), -np.inf)
    whole[:, tokens] = scores
    return whole


def warp(scores: np.ndarray, sampling: Sampling) -> np.ndarray:
    """Raw logits [n, V] -> normalised probabilities: temperature, then the top_k best, then the top_p nucleus."""
    p = np.exp((scores - scores.max(-1, keepdims=True)) / sampling.temperature)
    order = np.argsort(-p, axis=-1, kind="stable")
    ordered = np.take_along_axis(p, order, axis=-1)
    if sampling.top_k:
        ordered[:, sampling.top_k :] = 0.0
    ordered /= ordered.sum(-1, keepdims=True)
    if sampling.top_p < 1.0:
        more_likely = np.cumsum(ordered, axis=-1) - ordered
        ordered[more_likely >= sampling.top_p] = 0.0
        ordered /= ordered.sum(-1, keepdims=True)
    warped = np.zeros_like(p)
    np.put_along_axis(warped, order, ordered, axis=-1)
    return warped


def law(recipe: Recipe, prompt: Prompt, sampling: Sampling, depth: int) -> Law:
    """The warped law in all contexts of depth 0 to `depth`."""
    return [warp(raw(recipe, prompt, d), sampling) for d in range(depth + 1)]


def children(values: np.ndarray) -> np.ndarray:
    """[A^d, V] by (context, next token) -> [A^(d+1)] by child context."""
    return values[:, :ALIVE].reshape(-1)


def autoregressive(p: Law) -> Law:
    """The joint mass of (context, next token), by depth: what `joint` wants, of plain sampling from p."""
    mass, steps = np.ones(1), []
    for level in p:
        steps.append(mass[:, None] * level)
        mass = children(steps[-1])
    return steps


def joint(steps: Law, first: int) -> np.ndarray:
    """[V, V, V] joint law of tokens first+1 to first+3; once ended, every further token counts as EOS."""
    cells = np.zeros((VOCAB, VOCAB, VOCAB))
    cells[EOS, EOS, EOS] = sum(step[:, EOS].sum() for step in steps[: first + 1])
    cells[:ALIVE, EOS, EOS] += steps[first + 1][:, EOS].reshape(-1, ALIVE).sum(0)
    cells[:ALIVE, :ALIVE] += steps[first + 2].reshape(-1, ALIVE, ALIVE, VOCAB).sum(0)
    return cells
