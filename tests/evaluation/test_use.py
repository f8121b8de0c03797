"""`use: [dir]`: a recipe's target with artifacts in it, from recipe to rows."""

import re

import pytest
import torch

from tests.artifacts import TINY, config, draft_lora, lora, manifest, target_lora
from tests.evaluation.conftest import texts
from toolkit import artifact
from toolkit.hub import Models, load_hf


def test_a_used_adapter_is_in_the_target_and_in_the_identity(tiny, tmp_path, capsys):
    path = target_lora(tmp_path / "cot")
    assert tiny.run("methods=[]") == 0
    plain = texts(tiny.rows())
    assert tiny.run("methods=[]", f"use=[{path}]") == 2  # the rows there are of another target
    assert "rows of another recipe" in capsys.readouterr().err
    used = tmp_path / "used"
    assert tiny.run("methods=[ngram]", f"use=[{path}]", f"out={used}") == 0
    tiny.out, tiny.records = used, used / "records.jsonl"
    adapted = texts(tiny.rows())
    assert all(adapted[item] != plain[item] for item in plain)
    model, tokenizer = load_hf(config(adapters=[path]))
    row = next(row for row in tiny.rows() if row["method"] == "ngram")
    prompt = "user: 0 + 0 = 0. So 0 + 0 is\nassistant: "
    with torch.no_grad():
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        assert model(ids).logits[0, -1].argmax() == row["tokens"][0]
    results = tiny.results()
    assert results["recipe"]["use"] == results["recipe"]["target"]["adapters"] == [path]
    assert results["models"].keys() == {f"{TINY} + {path}"}
    before = tiny.records.read_bytes()
    assert tiny.run("methods=[ngram]", f"target={{name: '{TINY}', adapters: [{path}]}}", f"out={used}") == 0
    assert tiny.records.read_bytes() == before  # the same target in other words: nothing is decoded again


def test_rows_of_another_adapter_in_the_same_place_are_not_mixed(tiny, tmp_path, capsys):
    path = target_lora(tmp_path / "cot", seed=1)
    assert tiny.run("methods=[]", f"use=[{path}]") == 0
    target_lora(tmp_path / "cot", seed=2)
    assert tiny.run("methods=[]", f"use=[{path}]") == 2
    assert "weights is " in capsys.readouterr().err


def test_a_draft_artifact_drafts_for_its_target_only(tiny, tmp_path, capsys):
    cot = target_lora(tmp_path / "cot")
    target = config(adapters=[cot])
    path, _ = draft_lora(tmp_path / "draft", Models(target).identity(), target, [1])
    methods = f"methods=[{{name: own, base: speculative, proposer: {{model: {path}}}}}]"
    assert tiny.run(methods) == 2
    assert "trained for another model" in capsys.readouterr().err
    assert tiny.run(methods, f"use=[{cot}]") == 0
    assert [each["bugs"] for each in tiny.results()["equality"]] == [0]
    assert path in tiny.results()["models"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"provides": ["draft"]}, "provides: draft. Expected a LoRA that provides target; a draft goes into a method"),
        ({"kind": "model"}, "is of kind 'model' and provides: target. .*whole model is named itself: target: "),
    ],
)
def test_what_is_no_targets_lora_is_refused_before_a_model_is_loaded(tiny, tmp_path, capsys, changes, message):
    lora(tmp_path / "a")
    artifact.write(tmp_path / "a", manifest(**changes))
    assert tiny.run(f"use=[{tmp_path / 'a'}]", "target=not-there") == 2
    assert re.search(message, capsys.readouterr().err)
    assert tiny.run(f"use=[{tmp_path / 'b'}]") == 2
    assert "no manifest.json, so this is no artifact" in capsys.readouterr().err
