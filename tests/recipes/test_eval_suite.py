"""The suite of all kinds of tasks: one recipe, every method judged on each, on made-up rows and a tiny model."""

import json

import pytest

from tests.recipes.shipped import ROOT
from toolkit import config
from toolkit.evaluation import recipe as recipes
from toolkit.evaluation import study

SUITE = "recipes/eval/suite.yaml"
CODE = {"livecodebench", "humaneval"}
MATH = {"problem": "What is 1 + 1?", "solution": "\\boxed{2}", "answer": "2", "type": "Algebra"}
ROWS = {
    "gsm8k_test": [{"question": "What is 1 + 2?", "answer": "#### 3"}],
    "math_test": [{**MATH, "id": str(level), "level": f"Level {level}"} for level in (1, 3)],
    "livecodebench_public": [
        {
            "question_id": "a",
            "question_content": "Print 1.",
            "platform": "atcoder",
            "contest_date": "2024-01-01",
            "difficulty": "easy",
            "public_test_cases": [{"input": "", "output": "1"}],
        }
    ],
    "humaneval": [
        {
            "task_id": "H/0",
            "prompt": "def f(x):\n",
            "entry_point": "f",
            "test": "def check(f):\n    assert f(1) == 1\n",
        }
    ],
    "mt_bench": [{"question_id": 1, "category": "math", "turns": ["Add.", "Add more."]}],
}


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_it_asks_for_what_it_says():
    suite = config.load(study.StudyRecipe, SUITE, [])
    for name, changes in suite.axes["task"].items():
        recipe = recipes.load(suite.recipe, changes)
        assert recipe.task["limit"] == 30 and recipe.quality.exact and recipe.quality.enabled
        assert recipe.sampling.temperature == 0
        assert recipe.sampling.max_new_tokens == (256 if name in CODE else 128)
        assert len(recipes.contenders(recipe, suite.recipe)) == 4


def test_every_method_is_judged_on_every_task(tmp_path, monkeypatch):
    for name, rows in ROWS.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("DRAFTSMITH_DATA_DIR", str(tmp_path))
    small = ["target=tiny-random:llama", "methods=[ngram]", "sampling.max_new_tokens=6", "speed.prompts=1"]
    assert study.main([SUITE, *small, f"out={tmp_path / 'out'}"]) == 0
    found = json.loads((tmp_path / "out" / "study.json").read_text())
    for cell in found["cells"]:
        judged = [(one["method"], one["inherited"], one["accuracy"] is None) for one in cell["quality"]]
        unscored = cell["values"] == ["mt_bench"]
        assert judged == [("baseline", False, unscored), ("ngram", False, unscored)]
        assert [one["n"] for one in cell["speed"]] == [1, 1] and cell["equality"][0]["bugs"] == 0
    assert len(found["cells"]) == 6
