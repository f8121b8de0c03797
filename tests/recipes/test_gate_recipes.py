"""Recipes of gates: each learns from answers of its target that a recipe collects, between drafts that differ."""

from collections import Counter

import pytest

from tests.recipes.shipped import ANSWERS, DISTILLED, GATES, JUDGES, ROOT
from toolkit.training import autojudge, collect, consensus, distill


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
    """Recipes name each other by paths from the repository's root."""
    monkeypatch.chdir(ROOT)


@pytest.fixture
def collected():
    """The file of answers -> the recipe that collects them."""
    return {read.answers.path: read for read in (collect.load(path, []) for path in ANSWERS)}


@pytest.mark.parametrize("path", GATES, ids=str)
def test_a_gate_learns_what_its_own_target_answered(path, collected):
    read = consensus.load(path, [])
    for file in read.data.answers:
        asked = collected[file]
        assert asked.target == read.target, f"{file} is not of this target"
        assert asked.answers.temperature == 0, "the gate is for greedy decoding"
        assert read.data.max_length > asked.answers.max_new_tokens, "whole answers are cut"


@pytest.mark.parametrize("path", GATES, ids=str)
def test_its_drafts_are_two_and_learned_from_other_answers(path):
    read = consensus.load(path, [])
    assert read.d1 != read.d2
    made = {one.out: one for one in (distill.load(path, []) for path in DISTILLED)}
    for draft in (read.d1, read.d2):
        if draft.name in made:
            assert made[draft.name].target == read.target
            assert not set(made[draft.name].data.answers) & set(read.data.answers), "it seems better than it is"


def test_no_two_recipes_write_to_one_place():
    outs = [consensus.load(path, []).out for path in GATES] + [autojudge.load(path, []).out for path in JUDGES]
    assert len(GATES) >= 2
    assert max(Counter(outs).values()) == 1
