"""Prompt lookup beside its definition."""

import numpy as np

from tests.decode import lookup
from tests.decode.compose import Case
from tests.decode.models import EOS
from toolkit.engine.types import Request, Sampling
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


def test_nothing_is_proposed_behind_an_eos() -> None:
    """The prompt may hold one, as a conversation does."""
    decoder = Case("llama", "ngram").decoder()
    prompts = [(1, EOS, 2, 1), (EOS, EOS), (2, 3, EOS, 0, 2, 3)]
    sampling = Sampling(max_new_tokens=12)
    generations = decoder.generate([Request(i, prompt) for i, prompt in enumerate(prompts)], sampling)
    assert [g.windows[0][0] for g in generations] == [1, 1, 1]
