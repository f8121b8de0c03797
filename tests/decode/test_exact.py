"""The reference itself: its parts agree with each other, with brute force, and with what is known in closed form."""

import itertools

import numpy as np
import pytest
from scipy import stats as scipy_stats

from tests.decode import exact, rounds, stats
from tests.decode.compose import WARPS, Case
from tests.decode.draws import PROMPTS
from tests.decode.models import EOS, VOCAB
from toolkit.engine.types import Sampling

CASE = Case("llama", kind="far", window=2)
PROMPT = PROMPTS[1]


def _p(depth: int = 4) -> exact.Law:
    return exact.law(CASE.target, PROMPT, CASE.sampling, depth)


def _q(depth: int = 4) -> exact.Law:
    return exact.law(CASE.draft, PROMPT, CASE.sampling, depth)


@pytest.mark.parametrize("warp", WARPS)
def test_warps_are_laws(warp: str) -> None:
    p = exact.warp(exact.raw(CASE.target, PROMPT, 3), WARPS[warp])
    assert np.allclose(p.sum(-1), 1.0)
    cut = (p == 0).sum(-1)
    if warp == "top-k3":
        assert (cut == VOCAB - 3).all()
    elif warp == "top-p0.8":
        assert cut.any()
        assert np.where(p > 0, p, 1).min() < 0.2
    else:
        assert not cut.any()


def test_top_p_by_hand() -> None:
    scores = np.log(np.array([[0.1, 0.5, 0.25, 0.15]]))
    assert np.allclose(exact.warp(scores, Sampling(1.0, top_p=0.7)), [[0, 2 / 3, 1 / 3, 0]])
    assert np.allclose(exact.warp(scores, Sampling(1.0, top_p=0.8)), [[0, 0.5 / 0.9, 0.25 / 0.9, 0.15 / 0.9]])
    assert np.allclose(exact.warp(scores, Sampling(1.0, top_k=1)), [[0, 1, 0, 0]])
    assert np.allclose(exact.warp(scores, Sampling(0.5))[0, 1], 0.25 / (0.01 + 0.25 + 0.0625 + 0.0225))


def test_joint_by_brute_force() -> None:
    """Tokens 2-4 by summing over every sequence, one plain forward each."""
    p = _p(3)
    brute = np.zeros((VOCAB,) * 3)

    def walk(tokens: tuple[int, ...], context: int, mass: float) -> None:
        if EOS in tokens or len(tokens) == 4:
            brute[(*tokens, EOS, EOS, EOS, EOS)[1:4]] += mass
            return
        for token in range(VOCAB):
            walk((*tokens, token), context * (VOCAB - 1) + token, mass * p[len(tokens)][context, token])

    walk((), 0, 1.0)
    assert np.allclose(exact.joint(exact.autoregressive(p), 1), brute)
    assert np.isclose(brute.sum(), 1.0)


def test_exact_rejection_is_autoregression() -> None:
    """At T = 1 the round-by-round law collapses to the target's, wherever windows begin and end."""
    steps = rounds.emitted(_p(), _q(), 2, rounds.lenient(1.0))
    for mine, theirs in zip(steps, exact.autoregressive(_p()), strict=True):
        assert np.allclose(mine, theirs)


def test_lenience_is_seen() -> None:
    """At T = 3 it does not: the laws that the lossy tests compare with are not the target's."""
    lossy, lossless = (exact.joint(steps, 0) for steps in (_steps(3.0), exact.autoregressive(_p())))
    assert 0.5 * np.abs(lossy - lossless).sum() > 0.1
    assert np.isclose(lossy.sum(), 1.0)


def _steps(multiplier: float) -> exact.Law:
    return rounds.emitted(_p(), _q(), 2, rounds.lenient(multiplier))


def test_first_round_is_a_law_and_agrees_with_reach() -> None:
    law = rounds.first_round(_p(), _q(), 2, rounds.lenient(1.0))
    assert np.isclose(sum(law.values()), 1.0)
    accepted = [np.minimum(a, b) for a, b in zip(_p(), _q(), strict=True)]
    for count in (1, 2):
        assert np.isclose(rounds.reach(accepted, 0, count)[0], sum(v for k, v in law.items() if k[0] >= count))


def test_chi_square_is_uniform_when_true_and_zero_when_impossible() -> None:
    """Under the hypothesis p is uniform, with rare cells pooled; an outcome of probability 0 is fatal."""
    rng = np.random.default_rng(0)
    law = np.array([0.5, 0.3, 0.19, 0.006, 0.002, 0.001, 0.001, 0.0])
    values = [stats.chi_square([rng.multinomial(1000, law)], [1000 * law]) for _ in range(2000)]
    assert scipy_stats.kstest(values, "uniform").pvalue > 1e-4
    assert stats.chi_square([np.array([499, 300, 190, 6, 2, 1, 1, 1])], [1000 * law]) == 0.0
    tilted = law + np.array([-0.05, 0.05, 0, 0, 0, 0, 0, 0])
    assert stats.chi_square([rng.multinomial(20_000, tilted)], [20_000 * law]) < stats.CAUGHT


def test_pools_keep_everything() -> None:
    wanted = np.array([0.1, 7.0, 0.4, 3.0, 100.0, 2.0, 0.0])
    seen, pooled = stats._pool(np.arange(7.0), wanted)
    assert np.isclose(pooled.sum(), wanted.sum())
    assert seen.sum() == 21 - 6
    assert pooled.min() >= stats.SMALLEST_CELL
    assert list(itertools.chain(pooled[-2:])) == [7.0, 100.0]
