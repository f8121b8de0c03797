"""Recipes of heads and distilled drafts: read by their programs, fed by their target's answers, and of real sizes."""

from collections import Counter
from pathlib import Path

import pytest
import torch

from tests.recipes.shipped import ANSWERS, DISTILLED, DRAFTED, HEADS, ROOT, launched, processes
from tests.recipes.test_large_models import SIZES, model_of
from toolkit import config
from toolkit.nets.eagle3 import Eagle3
from toolkit.training import collect, distill, heads

READ = {**dict.fromkeys(HEADS, heads.load), **dict.fromkeys(DISTILLED, distill.load)}
LARGE_HEADS = [path for path in HEADS if path.parts[2] in DRAFTED]
LARGE_DRAFTS = [path for path in DISTILLED if path.parts[2] in DRAFTED]


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def collected():
    """The file of answers -> the recipe that collects them."""
    return {read.answers.path: read for read in (collect.load(ROOT / path, []) for path in ANSWERS)}


@pytest.mark.parametrize("folder", DRAFTED)
def test_a_large_target_has_answers_a_head_and_a_distilled_draft(folder):
    assert {Path(f"recipes/train/{folder}/{name}.yaml") for name in ("answers", "eagle3", "distill")} <= {
        *ANSWERS,
        *READ,
    }


@pytest.mark.parametrize("path", ANSWERS, ids=str)
def test_the_prompts_are_training_tasks(path):
    read = collect.load(path, [])
    for number, node in enumerate(read.data.tasks):
        _, options = config.piece("tasks", node, f"{path}: data.tasks.{number}")
        assert options.split == "train"


@pytest.mark.parametrize("path", READ, ids=str)
def test_a_draft_learns_what_its_own_target_answered(path, collected):
    read = READ[path](path, [])
    for file in read.data.answers:
        assert collected[file].target == read.target, f"{file} is not of this target"
    longest = max((collected[file].answers.max_new_tokens for file in read.data.answers), default=0)
    assert read.data.max_length > longest, "whole answers are cut"


def test_no_two_recipes_write_to_one_place(collected):
    assert len(collected) == len(ANSWERS)
    assert max(Counter(READ[path](path, []).out for path in READ).values()) == 1


@pytest.mark.parametrize("path", [*LARGE_HEADS, *LARGE_DRAFTS], ids=str)
def test_sixteen_texts_an_update_on_whole_replicas(path):
    train = READ[path](path, []).train
    assert launched(path).stem in ("single_gpu", "ddp"), "no draft is so large that it has to be shared out"
    assert train.batch * train.accumulate * processes(path) == 16


@pytest.mark.parametrize("path", LARGE_HEADS, ids=str)
def test_the_head_fits_its_target(path):
    """As shapes without memory; the number of parameters by arithmetic."""
    read = heads.load(path, [])
    _, hidden, layers, query_heads, key_heads, width, inner, vocabulary, _ = SIZES[read.target.name][0]
    with torch.device("meta"):
        target = model_of(read.target.name)
        head = Eagle3(heads.head_config(target.config, read.head, vocabulary, path))
    assert head.config.aux_layers == (2, layers // 2, layers - 3)
    assert head.config.draft_vocab_size == 32000
    attention = 2 * hidden * (query_heads + 2 * key_heads) * width + query_heads * width * hidden
    expected = 3 * hidden**2 + attention + 3 * hidden * inner + 4 * hidden + 32000 * hidden
    assert sum(p.numel() for p in head.parameters()) == expected
    held = (
        2 * sum(p.numel() for p in target.parameters()) + 16 * expected
    )  # bf16; float32 with gradient and two moments
    assert held < 60e9, "target and head in training leave a GPU of 80 GB no room"


@pytest.mark.parametrize("path", LARGE_DRAFTS, ids=str)
def test_the_student_is_small_beside_its_target(path):
    read = distill.load(path, [])
    with torch.device("meta"):
        target, student = (
            sum(p.numel() for p in model_of(one.name).parameters()) for one in (read.target, read.student)
        )
    assert student == SIZES[read.student.name][1]
    assert 6 * student < target
    assert 2 * target + 16 * student < 60e9
