"""Recipes of traces and of what is learned from them: each learner reads a trace that a recipe collects."""

from collections import Counter

import pytest

from tests.recipes.shipped import ACCEPTANCE_HEADS, POLICIES, ROOT, TRACES
from toolkit import config
from toolkit.training import collect, jointadaspec, specdecpp

READ = {**dict.fromkeys(ACCEPTANCE_HEADS, specdecpp.load), **dict.fromkeys(POLICIES, jointadaspec.load)}


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
    """Recipes name each other by paths from the repository's root."""
    monkeypatch.chdir(ROOT)


@pytest.fixture
def collected():
    """Directory of a trace -> how it is collected."""
    return {read.trace.path: read.trace for read in (collect.load(path, []) for path in TRACES)}


@pytest.mark.parametrize("path", TRACES, ids=str)
def test_the_prompts_are_training_tasks(path):
    read = collect.load(path, [])
    for number, node in enumerate(read.data.tasks):
        _, options = config.piece("tasks", node, f"{path}: data.tasks.{number}")
        assert options.split == "train"
    config.piece("proposers", read.trace.proposer, f"{path}: trace.proposer")


@pytest.mark.parametrize("path", READ, ids=str)
def test_a_learner_finds_what_it_needs_in_its_trace(path, collected):
    read = READ[path](path, [])
    for directory in read.traces:
        trace = collected[directory]
        assert read.temperature in trace.temperatures
        longest = read.max if path in ACCEPTANCE_HEADS else read.k_max
        assert longest < trace.window, "it is not known what follows the longest window"
        assert path not in ACCEPTANCE_HEADS or "draft" in trace.hidden


def test_no_two_recipes_write_to_one_place(collected):
    assert len(collected) == len(TRACES)
    assert max(Counter(READ[path](path, []).out for path in READ).values()) == 1


@pytest.mark.parametrize("path", [path for path in READ if path.stem.endswith("_t0")], ids=str)
def test_temperature_0_is_all_that_differs(path):
    cold, warm = (READ[path](one, []) for one in (path, path.with_stem(path.stem.removesuffix("_t0"))))
    assert (cold.temperature, warm.temperature, cold.out) == (0.0, 1.0, f"{warm.out}-t0")
    changed = {"temperature", "out"}
    assert {key: value for key, value in vars(cold).items() if key not in changed} == {
        key: value for key, value in vars(warm).items() if key not in changed
    }
