"""The exact probability that a place of a window is drafted, and that it is accepted, given the text before it."""

import functools

import numpy as np
import torch

from tests.decode import exact, lookup, rounds
from tests.decode.compose import NGRAM, Case
from tests.decode.heads import drafting
from tests.decode.models import ALIVE, TOKENS, Recipe

LEVELS = 8  # contexts of 0 to 7 tokens are enumerated; a round that begins at the last k - 1 of them is left out

Chances = dict[tuple[int, int], list[np.ndarray]]  # (0 drafted or 1 accepted, place) -> by start: [A^start]


@functools.cache
def of(case: Case, prompt: exact.Prompt) -> Chances:
    """Both probabilities, for every text of up to LEVELS - k tokens behind the prompt."""
    starts = range(LEVELS - case.window + 1)
    p = exact.law(case.target, prompt, case.sampling, LEVELS - 1)
    if case.proposer == "none":
        return {(what, place): [np.zeros(ALIVE**s) for s in starts] for what in (0, 1) for place in range(case.window)}
    if case.proposer == "ngram":
        return _of_lookup(prompt, p, case.window, starts)
    if case.proposer == "eagle3":
        return _of_head(case, prompt, p, starts)
    q = exact.law(case.draft, prompt, case.sampling, LEVELS - 1)
    if case.length == "entropy":
        q = [level * ~case.stops(exact.raw(case.draft, prompt, depth)) for depth, level in enumerate(q)]
    accepted = [np.minimum(a, b) for a, b in zip(p, q, strict=True)]
    return {
        (what, place): [rounds.reach(masses, start, place + 1) for start in starts]
        for what, masses in enumerate((q, accepted))
        for place in range(case.window)
    }


def _of_head(case: Case, prompt: exact.Prompt, p: exact.Law, starts: range) -> Chances:
    """A head's law depends on where the round began: up to there it has the target's states, from there on its own."""
    known: Chances = {(what, place): [] for what in (0, 1) for place in range(case.window)}
    for start in starts:
        q = [np.zeros_like(level) for level in p]  # nothing is drafted behind a text of one token
        if len(prompt) + start > 1:
            for depth in range(start, start + case.window):
                raw = drafted(case.target, prompt, start, depth)
                q[depth] = exact.warp(raw, case.sampling)
                if case.length == "entropy":
                    q[depth] = q[depth] * ~case.stops(raw)
        for what, masses in enumerate((q, [np.minimum(a, b) for a, b in zip(p, q, strict=True)])):
            for place in range(case.window):
                known[what, place].append(rounds.reach(masses, start, place + 1))
    return known


@functools.cache
def drafted(target: Recipe, prompt: exact.Prompt, start: int, depth: int) -> np.ndarray:
    """[A^depth, V] raw logits of the head behind every continuation, of which all from `start` on was drafted."""
    head = drafting(target)
    texts = np.concatenate([np.tile(prompt, (ALIVE**depth, 1)), exact.contexts(depth)], axis=1).astype(np.int64)
    committed = texts[:: ALIVE ** (depth - start), : len(prompt) + start]
    fused = head.fused(torch.from_numpy(committed.copy())).repeat_interleave(ALIVE ** (depth - start), 0)
    logits, _ = head.step(fused, torch.from_numpy(texts))
    return exact.spread(logits.double().numpy(), TOKENS)


def _of_lookup(prompt: exact.Prompt, p: exact.Law, window: int, starts: range) -> Chances:
    """For prompt lookup: what it proposes is certain, and is accepted with p's probability."""
    known: Chances = {
        (what, place): [np.zeros(ALIVE**start) for start in starts] for what in (0, 1) for place in range(window)
    }
    for start in starts:
        for context, tail in enumerate(exact.contexts(start).tolist()):
            mass, here = 1.0, context
            for place, token in enumerate(lookup.window((*prompt, *tail), window, *NGRAM)):
                mass *= p[start + place][here, token]
                known[0, place][start][context], known[1, place][start][context] = 1.0, mass
                here = here * ALIVE + token
    return known
