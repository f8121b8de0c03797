"""The exact probability that a place of a window is drafted, and that it is accepted, given the text before it."""

import functools

import numpy as np
import torch
from scipy.special import entr, rel_entr, softmax
from torch import Tensor

from tests.decode import exact, learned, lookup, rounds
from tests.decode.compose import KAPPAS, NGRAM, Case
from tests.decode.heads import drafting
from tests.decode.models import ALIVE, TOKENS, Recipe, model

LEVELS = 8  # contexts of 0 to 7 tokens are enumerated; a round that begins at the last k - 1 of them is left out

# (0 drafted or 1 accepted, place) -> by start: [S, A^start], S states of the policy when the round began
Chances = dict[tuple[int, int], list[np.ndarray]]


@functools.cache
def of(case: Case, prompt: exact.Prompt) -> Chances:
    """Both probabilities, for every text of up to LEVELS - k tokens behind the prompt."""
    starts = range(LEVELS - case.window + 1)
    if case.proposer == "none":
        return {(what, place): [_nothing(s) for s in starts] for what in (0, 1) for place in range(case.window)}
    p = exact.law(case.target, prompt, case.sampling, LEVELS - 1)
    if case.proposer == "ngram":
        return _of_lookup(prompt, p, case.window, starts)
    known: Chances = {(what, place): [] for what in (0, 1) for place in range(case.window)}
    for start in starts:
        by_state = [_masses(case, prompt, p, start, state) for state in range(states(case))]
        for what, place in known:
            reached = [rounds.reach(masses[what], start, place + 1) for masses in by_state]
            known[what, place].append(np.stack(reached))
    return known


def states(case: Case) -> int:
    """How many things a policy may know of the rounds before."""
    return learned.LAGS if case.length in KAPPAS else 1


def _nothing(start: int) -> np.ndarray:
    return np.zeros((1, ALIVE**start))


def _masses(case: Case, prompt: exact.Prompt, p: exact.Law, start: int, state: int) -> tuple[exact.Law, exact.Law]:
    """By depth: the masses of candidates that are drafted, and of those that are accepted."""
    q = [np.zeros_like(level) for level in p]
    if case.proposer != "eagle3" or len(prompt) + start > 1:  # a head drafts nothing behind a text of one token
        for place in range(case.window):
            depth = start + place
            ends = _stops(case, prompt, start, depth, state)
            q[depth] = _law(case, prompt, _from(case, start), depth) * ~ends[:, None]
    return q, [np.minimum(a, b) for a, b in zip(p, q, strict=True)]


def _stops(case: Case, prompt: exact.Prompt, start: int, depth: int, state: int) -> np.ndarray:
    """[A^depth] bool: does the policy end a window that began at `start` before the token at this depth?"""
    if case.length == "fixed":
        return np.zeros(ALIVE**depth, dtype=bool)
    if case.length == "specdecpp":
        kept = np.ones(ALIVE**start)
        for seen in range(start + 1, depth + 1):
            kept = kept.repeat(ALIVE) * _head_says(case, prompt, _from(case, start), seen)
        return 1 - kept > learned.RISK
    entropy = _entropy(case, prompt, _from(case, start), depth)
    if case.length == "entropy":
        return entropy > case.threshold
    return learned.lenience(entropy, state, depth - start, KAPPAS[case.length]) == 0


def _from(case: Case, start: int) -> int:
    """A draft model says the same wherever the round began; a head has the target's states up to there only."""
    return start if case.proposer == "eagle3" else 0


@functools.lru_cache(maxsize=64)  # large, and asked for again by the case's other starts and states only
def _law(case: Case, prompt: exact.Prompt, start: int, depth: int) -> np.ndarray:
    return exact.warp(raw(case, prompt, start, depth), case.sampling)


@functools.lru_cache(maxsize=64)
def _entropy(case: Case, prompt: exact.Prompt, start: int, depth: int) -> np.ndarray:
    """[A^depth] of the draft's raw law, nats."""
    return entr(softmax(raw(case, prompt, start, depth), axis=-1)).sum(-1)


@functools.cache
def _head_says(case: Case, prompt: exact.Prompt, start: int, depth: int) -> np.ndarray:
    """[A^depth] SpecDec++'s chance that the last token of every continuation is accepted."""
    if case.proposer == "eagle3":
        hidden = _stepped(case.target, prompt, start, depth)[1]
    else:
        hidden = exact.states(model(case.draft).plain, exact.continued(prompt, depth))
    with torch.inference_mode():
        return case.head.probability(hidden).double().numpy()


def raw(case: Case, prompt: exact.Prompt, start: int, depth: int) -> np.ndarray:
    """[A^depth, V] raw logits of the draft behind every continuation, in a round that began at `start`."""
    if case.proposer == "eagle3":
        return drafted(case.target, prompt, start, depth)
    return exact.raw(case.draft, prompt, depth)


@functools.cache
def kl(case: Case, prompt: exact.Prompt, start: int, depth: int) -> np.ndarray:
    """[A^depth] KL(q||p) of the raw laws, for a token that a round which began at `start` drafts at this depth."""
    q = softmax(raw(case, prompt, start, depth), axis=-1)
    return rel_entr(q, softmax(exact.raw(case.target, prompt, depth), axis=-1)).sum(-1)


def drafted(target: Recipe, prompt: exact.Prompt, start: int, depth: int) -> np.ndarray:
    """[A^depth, V] raw logits of the head behind every continuation, of which all from `start` on was drafted."""
    return exact.spread(_stepped(target, prompt, start, depth)[0].double().numpy(), TOKENS)


@functools.cache
def _stepped(target: Recipe, prompt: exact.Prompt, start: int, depth: int) -> tuple[Tensor, Tensor]:
    """-> the head's logits in its own ids, and its state."""
    head = drafting(target)
    texts = exact.continued(prompt, depth)
    committed = texts[:: ALIVE ** (depth - start), : len(prompt) + start]
    fused = head.fused(torch.from_numpy(committed.copy())).repeat_interleave(ALIVE ** (depth - start), 0)
    return head.step(fused, torch.from_numpy(texts))


def _of_lookup(prompt: exact.Prompt, p: exact.Law, window: int, starts: range) -> Chances:
    """For prompt lookup: what it proposes is certain, and is accepted with p's probability."""
    known: Chances = {
        (what, place): [_nothing(start) for start in starts] for what in (0, 1) for place in range(window)
    }
    for start in starts:
        for context, tail in enumerate(exact.contexts(start).tolist()):
            mass, here = 1.0, context
            for place, token in enumerate(lookup.window((*prompt, *tail), window, *NGRAM)):
                mass *= p[start + place][here, token]
                known[0, place][start][0, context], known[1, place][start][0, context] = 1.0, mass
                here = here * ALIVE + token
    return known
