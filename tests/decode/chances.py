"""The exact probability that a place of a window is drafted, and that it is accepted, given the text before it."""

import functools

import numpy as np

from tests.decode import exact, lookup, rounds
from tests.decode.compose import NGRAM, Case
from tests.decode.models import ALIVE

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
    q = exact.law(case.draft, prompt, case.sampling, LEVELS - 1)
    if case.length == "entropy":
        q = [level * ~case.stops(exact.raw(case.draft, prompt, depth)) for depth, level in enumerate(q)]
    accepted = [np.minimum(a, b) for a, b in zip(p, q, strict=True)]
    return {
        (what, place): [rounds.reach(masses, start, place + 1) for start in starts]
        for what, masses in enumerate((q, accepted))
        for place in range(case.window)
    }


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
