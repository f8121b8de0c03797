"""Every eval recipe runs: on a tiny model, on a few prompts."""

import json
import re
from pathlib import Path

import pytest
import yaml

from tests.evaluation.conftest import items
from toolkit.config import recipes_dir
from toolkit.evaluation.run import main

RECIPES = [path for path in sorted(recipes_dir().glob("eval/*.yaml")) if "-m eval recipes/" in path.read_text()]
SMALL = ["target=tiny-random:llama", "task.limit=3", "task.shots=0", "sampling.max_new_tokens=8", "speed.prompts=2"]
OF_ANOTHER_MODEL = {  # their drafts were trained for the real one
    "domains_cell": ["methods=[ngram]"],
    "domains_lora_cell": ["methods=[ngram]"],
    "domains_eagle3_cell": ["methods=[ngram]"],
    "drafts_gsm8k": ["methods=[ngram]"],
    "drafts_steps": ["methods=[ngram]", "use=[]"],
    "lengths_gsm8k": ["methods=[ngram]"],
    "lengths_gsm8k_t0": ["methods=[ngram]"],
    "lengths_steps": ["methods=[ngram]", "use=[]"],
    "lengths_steps_t0": ["methods=[ngram]", "use=[]"],
    "suite_cell": ["methods=[ngram]"],
    "sweep_steps": ["methods=[ngram]", "use=[]"],
    "consensus_steps": ["methods=[ngram]", "use=[]"],
    "routed_cost": ["methods=[ngram]", "task={type: steps, limit: 3}"],
    "router_mixed": ["methods=[ngram]", "use=[]", "task={type: steps, limit: 3}"],
}


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    """The data files that recipes need, with problems of our own."""
    rows = [{"question": f"What is {i} + 2?", "answer": f"It is {i + 2}.\n#### {i + 2}"} for i in range(4)]
    data = tmp_path / "data"
    data.mkdir()
    (data / "gsm8k_test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("domain_code", "domain_chat"):  # one in eight is held out, by its hash
        rows = [{"prompt": f"Say {i} times hello.", "response": "hello", "source": "ours"} for i in range(64)]
        (data / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("DRAFTSMITH_DATA_DIR", str(data))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_it_runs(recipe: Path, tmp_path):
    assert main([str(recipe), *SMALL, *OF_ANOTHER_MODEL.get(recipe.stem, []), f"out={tmp_path / 'out'}"]) == 0
    check(recipe, tmp_path / "out")


@pytest.mark.real
@pytest.mark.parametrize("name", OF_ANOTHER_MODEL)
def test_trained_drafts_run(name, tmp_path):
    recipe = Path(f"recipes/eval/{name}.yaml")
    named = {"checkpoints/smollm2-distilled", *re.findall(r"checkpoints/[\w-]+", recipe.read_text())}
    if missing := sorted(path for path in named if not Path(path).is_dir()):
        pytest.skip(f"{missing[0]} is not there: make artifacts trains it")
    assert main([str(recipe), *SMALL[1:2], *SMALL[3:], f"out={tmp_path / 'out'}"]) == 0
    check(recipe, tmp_path / "out")


def check(recipe: Path, out: Path) -> None:
    """Every row is there once, of the sets that the recipe has, and none failed."""
    rows = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    assert {row["status"] for row in rows} == {"ok"}
    assert set(items(rows).values()) == {1}
    judged = yaml.safe_load(recipe.read_text()).get("quality", {}).get("enabled", True)
    assert {row["set"] for row in rows} == ({"quality", "speed"} if judged else {"speed"})
