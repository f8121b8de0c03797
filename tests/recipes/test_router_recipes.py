"""Recipes of routers: training prompts of several domains, drafts whose pieces exist, a place of its own each."""

from collections import Counter

import pytest

from tests.recipes.shipped import ROOT, ROUTERS
from toolkit import config, encoder
from toolkit.training import router

TRYING = [path for path in ROUTERS if router.load(ROOT / path, []).collect]
LEARNING = [path for path in ROUTERS if path not in TRYING]  # from what others have tried


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
    """Recipes name each other by paths from the repository's root."""
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("path", TRYING, ids=str)
def test_it_is_read_and_routes_between_domains(path):
    read = router.load(path, [])
    assert len(read.collect.drafts) >= 2 and all(
        node.keys() == {"proposer", "length"} for node in read.collect.drafts.values()
    )
    [node] = read.data.tasks
    _, mixed = config.piece("tasks", node, f"{path}: data.tasks.0")
    assert mixed.split == "train" and len({task["domain"] for task in mixed.tasks}) >= 2
    for number, task in enumerate(mixed.tasks):
        piece = {key: value for key, value in task.items() if key != "domain"}
        config.piece("tasks", piece, f"{path}: data.tasks.0.tasks.{number}")


@pytest.mark.parametrize("path", LEARNING, ids=str)
def test_what_it_learns_from_is_tried_by_another(path):
    read = router.load(path, [])
    assert read.collected and {*read.collected} <= {router.load(other, []).collect.path for other in TRYING}
    assert read.train is not None


def test_encoders_have_names_that_are_known():
    recipes = {path.stem: router.load(path, []) for path in ROUTERS}
    assert {name: one.train.encoder for name, one in recipes.items()}["router_mpnet"] == "mpnet"
    assert {one.train.encoder for one in recipes.values()} <= encoder.NAMES.keys()


def test_no_two_recipes_write_to_one_place():
    recipes = [router.load(path, []) for path in ROUTERS]
    tried = [one.collect.path for one in recipes if one.collect]
    assert len(tried) >= 2
    for places in ([one.out for one in recipes], tried):
        assert max(Counter(places).values()) == 1 and all(places)
