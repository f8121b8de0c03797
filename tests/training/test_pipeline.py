"""Target, its answers, draft: on tiny models, killed on the way, and stopped by a gate."""

import json

import pytest
import torch
from safetensors.torch import load_file

from tests.evaluation.conftest import Tiny
from tests.training.runs import ROWS, TINY, Training, finish, kill_when, start
from toolkit import artifact
from toolkit.training import main


class Chain:
    """The recipes of the three stages in a directory; stage 1 may be done already, as `target`."""

    def __init__(self, directory, target=None, draft=None, **gates):
        self.target = target or Training(directory)
        self.recipe, self.out = directory / "chain.yaml", directory / "out" / "draft"
        self.answers, self.parts = directory / "answers.jsonl", directory / "answers.parts"
        recipe = json.loads(self.target.recipe.read_text())
        recipe["data"]["responses"] = str(self.answers)
        recipe |= {
            "target": {"name": TINY, "adapters": [str(self.target.out)]},
            "model": {"name": "target", "draft_from": {"layers": [1]}},
            "lora": {"rank": 8, "alpha": 16},
            "out": str(self.out),
        }
        (directory / "draft.yaml").write_text(json.dumps(recipe | (draft or {})))
        settings = {"path": str(self.answers), "batch": 4, "max_new_tokens": 32, "gates": {"marked": 0.0} | gates}
        chain = {"target": str(self.target.recipe), "draft": str(directory / "draft.yaml"), "answers": settings}
        self.recipe.write_text(json.dumps(chain))

    def run(self, *overrides):
        return main.cot_cod([str(self.recipe), *overrides])

    def start(self, processes=1):
        return start("train/cot_cod.py", self.recipe, processes=processes)

    def generated(self):
        """The keys of all answers that were written, in all sittings."""
        lines = [line for part in self.parts.glob("*.jsonl") for line in part.read_text().splitlines()]
        return [json.loads(line)["key"] for line in lines if line.endswith("}")]


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """Killed while the target answers, and brought to its end by two processes."""
    chain = Chain(tmp_path_factory.mktemp("chain"))
    kill_when(chain.start(), lambda: len(chain.generated()) >= 8)
    chain.before = chain.generated()
    chain.said = finish(chain.start(processes=2))
    return chain


def test_no_answer_is_generated_twice(chain):
    assert 8 <= len(chain.before) < ROWS
    assert len(chain.generated()) == len(set(chain.generated())) == ROWS
    rows = [json.loads(line) for line in chain.answers.read_text().splitlines()]
    assert {row["key"] for row in rows} == set(chain.generated())
    assert len({row["response"] for row in rows}) > ROWS / 4
    assert "lora is there already" in chain.said  # stage 1 is not done again
    assert chain.said.count(f"{chain.answers}: {ROWS} answers\n") == 1
    again = chain.answers.read_bytes()
    assert chain.run() == 0 and chain.answers.read_bytes() == again


def test_the_draft_is_bound_to_the_adapted_target(chain):
    manifest = artifact.verify(chain.out)
    assert manifest.provides == ["draft"]
    assert manifest.base == {"name": "target", "draft_from": {"layers": [1]}}
    assert manifest.binds["target"]["adapters"] == [artifact.digest(chain.target.out)]
    assert manifest.training["world_size"] == 2
    assert manifest.smoke["proposed"] > 0
    assert {weight.dtype for weight in load_file(chain.out / "adapter_model.safetensors").values()} == {torch.bfloat16}
    curve = [loss for _, loss in manifest.training["eval_loss"]]
    assert curve[-1] < 0.8 * curve[0]


def test_the_draft_is_used_with_its_target_only(chain, tmp_path, capsys):
    run = Tiny(tmp_path)
    run.ask([f"What is {i} + {i % 7}?" for i in range(5)])
    methods = f"methods=[{{name: own, base: speculative, proposer: {{type: draft_model, model: {chain.out}}}}}]"
    assert run.run(methods) == 2
    assert "trained for another model" in capsys.readouterr().err
    assert run.run(methods, f"use=[{chain.target.out}]") == 0
    assert [each["bugs"] for each in run.results()["equality"]] == [0]
    own = [row for row in run.rows() if row["method"] == "own"]
    assert sum(row["accepted"] for row in own) > 0


def test_a_failed_gate_stops_before_stage_three(whole, tmp_path, capsys):
    chain = Chain(tmp_path, whole, accuracy={"sums": 1.0})
    assert chain.run() == 2
    said = capsys.readouterr().err
    assert "do not pass 'answers.gates'" in said
    assert "at least 100.0%: FAILED" in said and "answer mark" in said and "last number only" in said
    assert "stage 3" not in said and not chain.out.exists() and not (tmp_path / "out").exists()
    before = chain.generated()
    assert len(before) == ROWS
    torn = next(chain.parts.glob("*.jsonl"))
    torn.write_bytes(torn.read_bytes()[:-20])
    assert chain.run("answers.gates.accuracy.sums=0") == 0  # only the answer that was cut short is generated again
    assert sorted(chain.generated()) == sorted(before)
    assert chain.out.is_dir()
    assert chain.run("answers.temperature=1") == 2
    assert "answers of another target or under other sampling" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("draft", "message"),
    [
        ({"target": {"name": TINY}}, "must be the draft of what"),
        ({"target": None, "model": TINY}, "must be the draft of what"),
        ({"data": {"tasks": ["steps"], "responses": "answers.jsonl"}}, "differ in data.tasks"),
        ({"data": None}, "the same file"),
    ],
)
def test_recipes_that_do_not_belong_together(draft, message, whole, tmp_path, capsys):
    if draft == {"data": None}:
        draft = {"data": json.loads(whole.recipe.read_text())["data"]}
    chain = Chain(tmp_path, whole, draft)
    assert chain.run() == 2
    said = capsys.readouterr().err
    assert message in said and "stage" not in said
