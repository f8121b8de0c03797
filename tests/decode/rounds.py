"""The exact law of whole rounds, by enumeration: what lossy rules emit, and how many candidates are accepted.

A state is (context, place in the window). A rule splits the mass q of a candidate into what it accepts and, for
the rejected rest, the law of the correction. Windows are taken as never clipped by the token limit.
"""

from collections.abc import Callable

import numpy as np

from tests.decode.exact import Law
from tests.decode.models import ALIVE, EOS, VOCAB

Split = tuple[np.ndarray, np.ndarray]  # [n, V] accepted mass, [n, V] corrected mass; together they sum to 1 a row
Rule = Callable[[np.ndarray, np.ndarray, int], Split]  # p, q [n, V], place in the window


def residual(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """max(0, p - q), normalised; p where that is empty."""
    rest = np.maximum(p - q, 0.0)
    total = rest.sum(-1, keepdims=True)
    return np.where(total > 0, rest / np.where(total > 0, total, 1.0), p)


def lenient(*multipliers: float) -> Rule:
    """Accept x with min(1, T p/q), T by place in the window, the last one from there on (methods: fuzzy, A4)."""

    def split(p: np.ndarray, q: np.ndarray, place: int) -> Split:
        accepted = np.minimum(q, multipliers[min(place, len(multipliers) - 1)] * p)
        rejected = 1.0 - accepted.sum(-1, keepdims=True)
        return accepted, rejected * residual(p, accepted)

    return split


def rescued_by_rank(k: int) -> Rule:
    """Throw the coin of rejection sampling; a rejected x stands all the same if it is among p's top k (A3)."""

    def split(p: np.ndarray, q: np.ndarray, place: int) -> Split:
        top = (p[:, None, :] > p[:, :, None]).sum(-1) < k
        accepted = np.where(top, q, np.minimum(q, p))
        return accepted, (1.0 - accepted.sum(-1, keepdims=True)) * residual(p, q)

    return split


def emitted(p: Law, q: Law, window: int, rule: Rule) -> Law:
    """Joint mass of (context, next token) by depth, for `exact.joint`, of decoding in windows of so many candidates."""
    mass = np.zeros((1, window + 1))  # [A^d, place]
    mass[0, 0] = 1.0
    steps = []
    for level_p, level_q in zip(p, q, strict=True):
        after = np.zeros((len(level_p), VOCAB, window + 1))
        after[..., 0] = mass[:, window, None] * level_p  # the bonus of a full window
        for place in range(window):
            accepted, corrected = rule(level_p, level_q, place)
            after[..., place + 1] = mass[:, place, None] * accepted
            after[..., 0] += mass[:, place, None] * corrected
        steps.append(after.sum(-1))
        mass = after[:, :ALIVE].reshape(-1, window + 1)
    return steps


def first_round(p: Law, q: Law, window: int, rule: Rule) -> dict[tuple[int, ...], float]:
    """Law of the first round: probability of each (accepted count, emitted tokens...)."""
    law: dict[tuple[int, ...], float] = {}

    def walk(context: int, place: int, tokens: tuple[int, ...], mass: float) -> None:
        level_p, level_q = p[place][context : context + 1], q[place][context : context + 1]
        if place == window:
            accepted, following = np.zeros(VOCAB), level_p[0]
        else:
            accepted, following = (part[0] for part in rule(level_p, level_q, place))
        for token in range(VOCAB):
            law[(place, *tokens, token)] = mass * following[token]
            if token == EOS:
                law[(place + 1, *tokens, EOS)] = mass * accepted[EOS]
            elif place < window:
                walk(context * ALIVE + token, place + 1, (*tokens, token), mass * accepted[token])

    walk(0, 0, (), 1.0)
    return law


def reach(masses: Law, depth: int, count: int) -> np.ndarray:
    """[A^depth] probability that the first `count` candidates of a window begun there all get through.

    masses: by depth [A^d, V], the mass of a candidate that gets through: q to be drafted at all, min(p, q) to be
    accepted. Nothing is drafted behind an EOS.
    """
    through = masses[depth + count - 1].sum(-1)
    for mass in masses[depth : depth + count - 1][::-1]:
        through = (mass[:, :ALIVE] * through.reshape(-1, ALIVE)).sum(-1)
    return through
