"""Tests of hypotheses, and the one significance level of the whole suite.

Family-wise alpha 0.001, shared out equally (Bonferroni) over at most FAMILY p-values; `judge` counts them, so the
family cannot outgrow its share unnoticed. Seeds are fixed and are never changed to make a case pass.
"""

import os

import numpy as np
from scipy import stats

FAMILY = 1400  # p-values in the whole suite, at most
ALPHA = 1e-3 / FAMILY
CAUGHT = 5e-7  # a planted bug must do worse than this
assert CAUGHT < ALPHA, "a planted bug must be caught by the very test that runs without it"
SMALLEST_CELL = 5.0  # expected count

DRAWS = int(20_000 * float(os.environ.get("DRAFTSMITH_EXACT_DRAWS", "1")))

judged: dict[str, float] = {}  # name -> p


def judge(name: str, p: float) -> None:
    """Fail where the hypothesis is rejected at the suite's level."""
    judged[name] = p
    assert len(judged) <= FAMILY, f"more than {FAMILY} p-values: raise FAMILY, which lowers everybody's share of alpha"
    assert p >= ALPHA, f"{name}: p = {p:.2e} < {ALPHA:.1e}"


def chi_square(observed: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """p of independent strata, each a table of counts beside the exact law's expected counts.

    0 where something impossible was seen: it must not hide in a pool.
    """
    statistic, freedom = 0.0, 0
    for seen, wanted in zip(observed, expected, strict=True):
        seen, wanted = seen.reshape(-1).astype(np.float64), wanted.reshape(-1)
        if seen[wanted < 1e-9].any():
            return 0.0
        seen, wanted = _pool(seen, wanted)
        statistic += float(((seen - wanted) ** 2 / wanted).sum())
        freedom += len(wanted) - 1
    assert freedom > 0, "nothing to test: one cell holds everything"
    return float(stats.chi2.sf(statistic, freedom))


def _pool(seen: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Join the rarest cells until every pool expects SMALLEST_CELL; the others stay single."""
    pools: list[list[float]] = []  # [seen, wanted]
    for cell in np.argsort(wanted, kind="stable"):
        if pools and pools[-1][1] < SMALLEST_CELL:
            pools[-1][0] += seen[cell]
            pools[-1][1] += wanted[cell]
        elif wanted[cell] > 0:
            pools.append([seen[cell], wanted[cell]])
    pooled = np.array(pools)
    return pooled[:, 0], pooled[:, 1]


def z_test(excess: float, variance: float) -> float:
    """Two-sided p of a sum of centred terms whose variance is known. Where nothing is random, any excess is a bug."""
    if variance < 1e-6:
        return float(abs(excess) < 1e-3)
    return float(2 * stats.norm.sf(abs(excess) / np.sqrt(variance)))
