"""`draftsmith record`: figures go from a result file into a manifest, where the artifact took part in the run."""

import json

import pytest

from tests.artifacts import TINY, config, draft_lora, target_lora
from tests.export.drafts import head, vocabulary
from toolkit import artifact, cli
from toolkit.evaluation import run
from toolkit.hub import Models

DRAFT = "{{name: own, proposer: {{type: draft_model, model: {draft}}}, length: {{type: fixed, k: 2}}}}"


def evaluated(tmp_path, model, target, draft):
    out = tmp_path / "eval"
    overrides = [
        f"target={model}",
        f"use=[{target}]",
        f"methods=[ngram, {DRAFT.format(draft=draft)}]",
        "task={type: steps, limit: 6}",
        "sampling.max_new_tokens=8",
        "speed.prompts=5",
        "speed.max_new_tokens=null",
    ]
    assert run.main(["recipes/eval/cot_cod_cell.yaml", *overrides, f"out={out}"]) == 0
    return out / "results.json"


@pytest.mark.parametrize("name", [TINY, f"{{name: {TINY}, revision: main}}"], ids=["bare", "revision"])
def test_record(tmp_path, capsys, name):
    target = target_lora(tmp_path / "cot")
    model = config(adapters=[target])
    draft, _ = draft_lora(tmp_path / "draft", Models(model).identity(), model, [1])
    results = evaluated(tmp_path, name, target, draft)
    found = json.loads(results.read_text())

    assert cli.main(["record", target, str(results)]) == 0
    rows = {row["method"]: row for row in artifact.verify(tmp_path / "cot").metrics}
    assert rows.keys() == {"baseline", "ngram", "own"}
    assert rows["baseline"]["accuracy"] == found["quality"][0]["accuracy"]["value"]
    assert (rows["baseline"]["n"], rows["own"]["k"], rows["own"]["task"]) == (6, 2, "steps")
    assert "accuracy" not in rows["ngram"]  # exact, so not measured apart
    timed = {one["method"]: one for one in found["speed"]}
    assert rows["own"]["tau"] == timed["own"]["tau"]
    assert rows["own"]["speedup"] == timed["own"]["speedup"]["value"]

    # a draft decides about its own method only, and recording again replaces
    assert cli.main(["record", draft, str(results), str(results)]) == 0
    assert [row["method"] for row in artifact.verify(tmp_path / "draft").metrics] == ["own"]

    # another artifact took no part, whatever its path
    target_lora(tmp_path / "cod", seed=3)
    assert cli.main(["record", str(tmp_path / "cod"), str(results)]) == 2
    assert "no run in it used" in capsys.readouterr().err


def test_a_heads_figures(tmp_path):
    made = head(tmp_path / "head", Models(config()), (0, 1, 1), vocabulary(259))
    drafting = f"{{name: own, proposer: {{type: eagle3, head: {made}}}, length: {{type: fixed, k: 2}}}}"
    small = [
        "task={type: steps, limit: 5}",
        "speed.prompts=5",
        "sampling.max_new_tokens=8",
        "speed.max_new_tokens=null",
    ]
    out = tmp_path / "eval"
    methods = f"methods=[ngram, {drafting}]"
    assert run.main(["recipes/eval/cot_cod_cell.yaml", f"target={TINY}", methods, *small, f"out={out}"]) == 0
    assert cli.main(["record", made, str(out / "results.json")]) == 0
    [row] = artifact.verify(tmp_path / "head").metrics
    assert {key: row[key] for key in ("task", "method", "temperature", "k")} == {
        "task": "steps",
        "method": "own",
        "temperature": 0.0,
        "k": 2,
    }
    measured = {"tau", "acceptance", "tokens_per_s", "speedup", "hardware", "result_file"}
    assert measured <= row.keys()
    assert row["result_file"] == str(out / "results.json")


def test_a_file_that_is_no_result_is_refused(tmp_path, capsys):
    target = target_lora(tmp_path / "cot")
    (tmp_path / "x.json").write_text('{"speed": []}')
    assert cli.main(["record", target, str(tmp_path / "x.json")]) == 2
    assert "expected the results.json of an eval" in capsys.readouterr().err
