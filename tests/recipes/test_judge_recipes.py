"""Recipes of judges: each mines training problems, with states that its classifier reads, into a place of its own."""

from collections import Counter

import pytest

from tests.recipes.shipped import JUDGES, ROOT
from toolkit import config
from toolkit.training import autojudge


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
    """Recipes name each other by paths from the repository's root."""
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("path", JUDGES, ids=str)
def test_what_is_mined_is_what_is_read(path):
    recipe = autojudge.load(path, [])
    for number, node in enumerate(recipe.data.tasks):
        _, options = config.piece("tasks", node, f"{path}: data.tasks.{number}")
        assert options.split == "train"
    config.piece("proposers", recipe.mine.proposer, f"{path}: mine.proposer")
    assert {name for name in recipe.judge.features if name != "distribution"} <= set(recipe.mine.hidden)


def test_no_two_recipes_write_to_one_place():
    recipes = [autojudge.load(path, []) for path in JUDGES]
    assert len(recipes) >= 2
    for places in ([one.out for one in recipes], [one.mine.path for one in recipes]):
        assert max(Counter(places).values()) == 1 and all(places)
