"""A judge that is learned from what was mined before is of the target that it was mined with, and of no other."""

import dataclasses
import json
import re

import pytest

from tests.training import judging
from toolkit.hub import ModelConfig
from toolkit.training import main

GIVEN = dataclasses.asdict(ModelConfig(judging.TINY, dtype="float32"))  # mined with another dtype, on a named device


@pytest.fixture(scope="module")
def mined(tmp_path_factory):
    return judging.directory(tmp_path_factory.mktemp("mined") / "pair")


@pytest.fixture
def train(mined, monkeypatch, tmp_path):
    """-> the exit code with this target."""
    monkeypatch.chdir(tmp_path)  # reports go there
    recipe = {"mined": [str(mined)], "judge": {"C": [1.0], "folds": 2, "valid": 0.25}, "out": str(tmp_path / "out")}
    (tmp_path / "judge.yaml").write_text(json.dumps(recipe))
    return lambda target: main.autojudge([str(tmp_path / "judge.yaml"), f"target={json.dumps(target)}"])


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("name", "tiny-random:qwen3", f"'tiny-random:qwen3', .*mined.json was mined with '{judging.TINY}'"),
        ("revision", "r2", "'r2', .*mined.json was mined with None"),
        ("adapters", ["lora"], r"\['lora'\], .*mined.json was mined with \[\]"),
    ],
)
def test_another_target_is_refused(train, tmp_path, capsys, key, value, shown):
    assert train(GIVEN | {key: value}) == 2
    assert re.search(rf"judge.yaml: key 'target.{key}' is {shown}", capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_the_mined_target_on_any_device(train, tmp_path):
    assert train(GIVEN) == 0
    assert (tmp_path / "out" / "manifest.json").is_file()
