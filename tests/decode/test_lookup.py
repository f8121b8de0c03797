"""Prompt lookup beside its definition."""

import numpy as np

from tests.decode import lookup
from toolkit.proposers import ngram


def test_lookup_equals_the_naive_one() -> None:
    """On random texts of few letters: matches of every length, and none."""
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(3000):
        text = rng.integers(0, 4, rng.integers(1, 16))
        limit, shortest = int(rng.integers(0, 6)), int(rng.integers(1, 4))
        longest = shortest + int(rng.integers(0, 3))
        found = ngram.lookup(text, limit, shortest, longest).tolist()
        assert found == lookup.window(tuple(text.tolist()), limit, shortest, longest)
        seen.add(len(found))
    assert seen == set(range(6))
