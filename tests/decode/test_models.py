"""The suite can only see what its models make visible: they depend on the context, and drafts differ from targets."""

import itertools

import numpy as np
import pytest

from tests.decode import chances, exact
from tests.decode.compose import WARPS
from tests.decode.draws import PROMPTS
from tests.decode.models import ALIVE, EOS, TARGETS, Family, Recipe, draft_recipe, target_recipe

DEPTH = 5  # contexts of up to so many tokens beyond the prompt
RAW = WARPS["t1"]


def _laws(recipe: Recipe) -> list[exact.Law]:
    return [exact.law(recipe, prompt, RAW, DEPTH) for prompt in PROMPTS]


def _tv(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return 0.5 * np.abs(p - q).sum(-1)


@pytest.mark.parametrize("family", TARGETS)
def test_eos_is_never_far_off(family: Family) -> None:
    assert min(level[:, EOS].min() for law in _laws(target_recipe(family)) for level in law) >= 0.05


@pytest.mark.parametrize("family", TARGETS)
def test_the_third_last_token_matters(family: Family) -> None:
    """Changing it moves p by 0.2 on average: a bug in an old slot shows."""
    moved = []
    for law in _laws(target_recipe(family)):
        for depth in range(3, DEPTH + 1):
            p = law[depth].reshape(-1, ALIVE, ALIVE**2, law[depth].shape[-1])  # third-last token on axis 1
            moved += [_tv(p[:, a], p[:, b]).mean() for a, b in itertools.combinations(range(ALIVE), 2)]
    assert np.mean(moved) >= 0.2


@pytest.mark.parametrize("family", TARGETS)
def test_heads_draft_and_read_their_context(family: Family) -> None:
    """Neither sure nor blind: TV to the target's law, and between contexts that differ in one drafted token."""
    recipe, prompt = target_recipe(family), PROMPTS[2]
    p = exact.law(recipe, prompt, RAW, DEPTH)
    apart, moved = [], []
    for start, depth in ((0, 0), (0, 3), (2, 2), (2, 4), (4, 5)):
        q = exact.warp(chances.drafted(recipe, prompt, start, depth), RAW)
        apart.append(_tv(p[depth], q).mean())
        if depth:
            children = q.reshape(-1, ALIVE, q.shape[-1])
            moved += [_tv(children[:, a], children[:, b]).mean() for a, b in itertools.combinations(range(ALIVE), 2)]
    assert 0.2 <= np.mean(apart) <= 0.7
    assert np.mean(moved) >= 0.1


@pytest.mark.parametrize("family", TARGETS)
@pytest.mark.parametrize(("kind", "least", "most"), [("far", 0.3, 0.6), ("near", 0.05, 0.15), ("trimmed", 0.3, 0.65)])
def test_drafts_are_far_and_near(family: Family, kind: str, least: float, most: float) -> None:
    pairs = zip(_laws(target_recipe(family)), _laws(draft_recipe(family, kind)), strict=True)
    distances = [_tv(p, q) for laws in pairs for p, q in zip(*laws, strict=True)]
    assert least <= np.concatenate(distances).mean() <= most
