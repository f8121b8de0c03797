"""Every eval recipe runs: on a tiny model, on a few prompts."""

import json
from pathlib import Path

import pytest

from tests.evaluation.conftest import items
from toolkit.config import recipes_dir
from toolkit.evaluation.run import main

RECIPES = [path for path in sorted(recipes_dir().glob("eval/*.yaml")) if "-m eval recipes/" in path.read_text()]
SMALL = ["target=tiny-random:llama", "task.limit=3", "task.shots=0", "sampling.max_new_tokens=8", "speed.prompts=2"]


@pytest.fixture(autouse=True)
def gsm8k(tmp_path, monkeypatch):
    """The one data file that a recipe needs, with problems of our own."""
    rows = [{"question": f"What is {i} + 2?", "answer": f"It is {i + 2}.\n#### {i + 2}"} for i in range(4)]
    data = tmp_path / "data"
    data.mkdir()
    (data / "gsm8k_test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("DRAFTSMITH_DATA_DIR", str(data))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_it_runs(recipe: Path, tmp_path):
    assert main([str(recipe), *SMALL, f"out={tmp_path / 'out'}"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "out" / "records.jsonl").read_text().splitlines()]
    assert {row["status"] for row in rows} == {"ok"}
    assert set(items(rows).values()) == {1}
    assert {row["set"] for row in rows} == {"quality", "speed"}
