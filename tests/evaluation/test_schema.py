"""The models say what `Record` says, and the tracked JSON Schemas what the models say."""

import dataclasses
import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.evaluation.rows import row
from toolkit.evaluation import schema
from toolkit.evaluation.records import Record, encode, parse, required

TRACKED = Path(__file__).parents[2] / "docs" / "schema"


def models(node):
    return {"": node, **node.get("$defs", {})}


@pytest.mark.parametrize("name", schema.schemas())
def test_every_key_says_what_it_means(name):
    for model, node in models(schema.schemas()[name]).items():
        assert node["description"], model
        for key, one in node["properties"].items():
            assert one["description"].endswith("."), f"{model}.{key}"


def test_the_page_has_every_key_with_its_meaning():
    page = (TRACKED / schema.PAGE).read_text()
    for node in (node for one in schema.schemas().values() for node in models(one).values()):
        for key, one in node["properties"].items():
            [*_, meaning] = [line for line in page.splitlines() if line.startswith(f"| `{key}`")]
            assert meaning.count("|") == 4
            assert " ".join(one["description"].split()) in page
    assert "| `n_tokens` | integer | Tokens that were generated: of a conversation fewer than `tokens` has. |" in page
    assert "| `windows` (optional) | list of list of integer | The rounds one by one" in page


@pytest.mark.parametrize("name", schema.schemas())
def test_the_tracked_schema_is_what_the_code_says(name):
    tracked = json.loads((TRACKED / name).read_text(encoding="utf-8"))
    assert tracked == schema.schemas()[name], "write it anew: draftsmith validate --export docs/schema"


def test_every_tracked_schema_is_exported(tmp_path):
    exported = schema.export(tmp_path / "new")
    assert {path.name for path in exported} == {path.name for path in TRACKED.iterdir()}
    for path in exported:
        assert path.read_bytes() == (TRACKED / path.name).read_bytes()


def test_a_row_has_the_fields_of_the_dataclass():
    found = schema.schemas()["record.schema.json"]
    assert list(found["properties"]) == [field.name for field in dataclasses.fields(Record)]
    assert set(found["required"]) == required()
    assert found["additionalProperties"] is False


def test_what_is_written_is_read_and_the_same():
    written = row(text="ümläut \u2028", divergence=0.25, lossless=False, counters={"a": 1}, correct=True)
    for one in (written, row(status="error", error_type="E", message="m", traceback="t", times={})):
        assert Record(**dict(schema.RecordRow.model_validate_json(encode(one)))) == one


def test_an_older_row_of_this_version_has_defaults_as_in_parse():
    whole = json.loads(encode(row()))
    older = json.dumps({key: value for key, value in whole.items() if key in required()}).encode()
    assert Record(**dict(schema.RecordRow.model_validate_json(older))) == parse(older)


@pytest.mark.parametrize(
    "change",
    [
        {"tokens": ["1"]},
        {"tokens": [1.5]},
        {"n_tokens": True},
        {"seed": "0"},
        {"correct": 1},
        {"set": "other"},
        {"times": {"total": None}},
        {"lossless": None},
        {"schema_version": 2},
    ],
)
def test_no_value_is_taken_for_another_type(change):
    line = json.dumps(json.loads(encode(row())) | change)
    with pytest.raises(ValidationError):
        schema.RecordRow.model_validate_json(line)


@pytest.mark.parametrize("settings", [["sampling.temperature=1.0", "seeds=[0,1]"], ["speed.prompts=0"], []])
def test_the_files_of_a_run_are_as_their_schemas_say(tiny, settings):
    grid = "{name: cell, base: topk, grid: {accept.k: [1, 2]}}"
    assert tiny.run(f"methods=[ngram,{grid}]", *settings) == 0
    schema.RunFile.model_validate_json((tiny.out / "run.json").read_bytes())
    results = schema.ResultsFile.model_validate_json((tiny.out / "results.json").read_bytes())
    assert [one.method for one in results.quality] == ["baseline", "ngram", "cell_k=1", "cell_k=2"]
    for line in tiny.records.read_bytes().splitlines():
        schema.RecordRow.model_validate_json(line)


def test_keys_that_programs_rely_on_are_required(tiny):
    tiny.run("methods=[ngram]")
    whole = tiny.results()
    fields = schema.ResultsFile.model_fields
    assert [key for key, field in fields.items() if not field.is_required()] == ["metric"], "which came later"
    for key in fields.keys() - {"metric"}:
        with pytest.raises(ValidationError, match=key):
            schema.ResultsFile.model_validate({name: value for name, value in whole.items() if name != key})
