"""The counter-based stream: uniform, independent along every part of the key, and no two draws are the same one."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats as scipy_stats

from tests.decode.stats import chi_square, judge
from toolkit.engine.rng import Purpose, Rng, request_keys

COUNT = 50_000
BINS = 10


def _uniforms(seed: int = 0, request: int = 0, sample: int = 0, committed: int = 0, **draw: int) -> np.ndarray:
    """[COUNT]: one value of a key, over COUNT requests that start at `request`."""
    ids = torch.arange(request, request + COUNT)
    keys = request_keys(seed, ids, torch.full_like(ids, sample))
    rng = Rng(keys, torch.full_like(ids, committed))
    return rng.uniform(draw.get("purpose", Purpose.DRAFT), draw.get("position", 0), draw.get("draw", 0)).numpy()


NEIGHBOURS = [
    {"seed": 1},
    {"request": 1},
    {"sample": 1},
    {"committed": 1},
    {"position": 1},
    {"draw": 1},
    {"purpose": Purpose.COIN},
    {"purpose": Purpose.RESIDUAL},
    {"purpose": Purpose.BONUS},
]


def test_uniform() -> None:
    values = _uniforms()
    assert values.dtype == np.float64
    assert 0.0 <= values.min() < values.max() < 1.0
    judge("rng uniform", float(scipy_stats.kstest(values, "uniform").pvalue))


@pytest.mark.parametrize("neighbour", NEIGHBOURS, ids=str)
def test_neighbouring_keys_are_independent(neighbour: dict[str, int]) -> None:
    """Two draws whose keys differ in one part, as a 10 x 10 table."""
    cells = (_uniforms() * BINS).astype(int) * BINS + (_uniforms(**neighbour) * BINS).astype(int)
    counts = np.bincount(cells, minlength=BINS**2)
    judge(f"rng independence {neighbour}", chi_square([counts], [np.full(BINS**2, COUNT / BINS**2)]))


def test_sums_do_not_cancel() -> None:
    """(committed + 1, position) is not (committed, position + 1): a draw never comes back in a later round."""
    assert not np.isin(_uniforms(committed=1, position=0), _uniforms(committed=0, position=1)).any()


def test_no_two_draws_are_the_same() -> None:
    """52 random bits over 300,000 keys: a collision by chance has a probability of 1e-5."""
    seen = []
    ids = torch.arange(250)
    for seed, sample, committed in itertools.product((0, 1), range(5), range(10)):
        rng = Rng(request_keys(seed, ids, torch.full_like(ids, sample)), torch.full_like(ids, committed))
        seen += [rng.uniform(purpose, place) for purpose in Purpose for place in range(3)]
    values = torch.cat(seen).numpy()
    assert len(values) >= 300_000
    assert len(np.unique(values)) == len(values)


def test_a_window_of_positions_equals_its_places() -> None:
    """[B, N] positions give what N calls give: how a rule asks does not change what it gets."""
    ids = torch.arange(6)
    rng = Rng(request_keys(3, ids, ids), 10 + ids)
    window = rng.uniform(Purpose.COIN, torch.arange(4).expand(6, -1))
    assert torch.equal(window, torch.stack([rng.uniform(Purpose.COIN, place) for place in range(4)], 1))
    assert torch.equal(window[:, 2], rng.uniform(Purpose.COIN, torch.full((6,), 2)))


@pytest.mark.parametrize("seed", [-1, 2**63 - 1, 2**64 - 1])
def test_any_seed_is_a_seed(seed: int) -> None:
    assert len(np.unique(_uniforms(seed=seed))) == COUNT
