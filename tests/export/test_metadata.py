"""The metadata of a card: what it says, and what the hub would refuse."""

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results

from tests.artifacts import manifest
from tests.export.filled import DRAFT, FILLED, TARGET
from toolkit import registry
from toolkit.export import card
from toolkit.export.metadata import DATASETS, LICENCES, problems


def made(**changes):
    """A card whose metadata has these changes; None takes a key away."""
    whole = card.render(manifest(**FILLED), "mine")
    data = {key: value for key, value in (whole.data.to_dict() | changes).items() if value is not None}
    return ModelCard(f"---\n{yaml.safe_dump(data)}---\n{whole.text}")


def test_metadata_of_an_adapter():
    data = card.render(manifest(**FILLED), "mine").data.to_dict()
    assert data["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert data["base_model_relation"] == "adapter"
    assert data["library_name"] == "peft"
    assert data["license"] == "apache-2.0"
    assert data["pipeline_tag"] == "text-generation"
    assert data["datasets"] == ["openai/gsm8k"]
    assert data["tags"] == ["speculative-decoding", "lora", "draftsmith"]


def test_metadata_of_a_draft_merged_into_a_model():
    data = card.render(manifest(**DRAFT | {"kind": "model"}), "mine").data.to_dict()
    assert data["base_model"] == TARGET["name"]
    assert data["base_model_relation"] == "finetune"
    assert data["library_name"] == "transformers"
    assert data["tags"] == ["speculative-decoding", "draft-model", "draftsmith"]


def test_the_index_holds_the_figures():
    name, results = model_index_to_eval_results(card.render(manifest(**FILLED), "mine").data.to_dict()["model-index"])
    assert name == "mine"
    found = {(result.dataset_name, result.metric_type): result.metric_value for result in results}
    assert found == {
        ("gsm8k", "tau"): 2.3456,
        ("gsm8k", "speedup"): 1.418,
        ("gsm8k", "tokens_per_s"): 61.27,
        ("gsm8k", "seconds_per_correct"): 17.86,
        ("steps", "accuracy"): 0.5372,
    }
    assert {result.metric_args["n"] for result in results} == {24, 201}


def test_a_model_that_is_on_no_hub_is_no_base_model():
    assert "base_model" not in card.render(manifest(), "mine").data.to_dict()


def test_the_datasets_are_those_that_the_tasks_read():
    assert {name: registry.load("tasks", name).HUB_ID for name in DATASETS} == DATASETS


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("Apache-2.0", {"license": "apache-2.0"}),
        ("", {"license": "unknown"}),
        ("GPL-3.0-or-later", {"license": "other", "license_name": "gpl-3.0-or-later"}),
        ("My Own Licence", {"license": "other", "license_name": "my-own-licence"}),
    ],
)
def test_a_licence_is_one_that_the_hub_knows(licence, expected):
    rendered = card.render(manifest(licence=licence), "mine")
    assert {key: value for key, value in rendered.data.to_dict().items() if "license" in key} == expected
    assert problems(rendered) == []


def test_nothing_is_wrong_with_ours():
    assert len(LICENCES) > 80
    for fields in (FILLED, DRAFT, DRAFT | {"kind": "model"}, {}):
        rendered = card.render(manifest(**fields), "mine")
        assert problems(rendered) == []
        assert problems(ModelCard(str(rendered))) == [], "read back"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"license": "Apache-2.0"}, "key 'license' is 'Apache-2.0'"),
        ({"license": None}, "key 'license' is missing"),
        ({"license_name": "My Own"}, "key 'license_name'"),
        ({"base_model": "./checkpoints/mine"}, "key 'base_model' is './checkpoints/mine'"),
        ({"base_model": 7}, "key 'base_model' is 7"),
        ({"base_model": None}, "key 'base_model_relation'"),
        ({"base_model_relation": "child"}, "key 'base_model_relation'"),
        ({"datasets": ["open ai/gsm8k"]}, "key 'datasets'"),
        ({"language": ["English"]}, "key 'language'"),
        ({"tags": ["lora", 3]}, "key 'tags'"),
        ({"library_name": 3}, "key 'library_name'"),
        ({"pipeline_tag": "text generation"}, "key 'pipeline_tag'"),
    ],
)
def test_what_the_hub_would_refuse(changes, expected):
    assert [one for one in problems(made(**changes)) if expected in one] != []


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda result: result["task"].update(type=""), "model-index.0.task.type"),
        (lambda result: result["dataset"].update(name=""), "model-index.0.dataset.name"),
        (lambda result: result["metrics"][0].update(type=""), "metrics.0.type"),
        (lambda result: result["metrics"][0].update(value=float("nan")), "metrics.0.value"),
        (lambda result: result["metrics"][0].update(value=[1]), "metrics.0.value"),
    ],
)
def test_what_the_hub_would_refuse_in_the_results(spoil, expected):
    index = card.render(manifest(**FILLED), "mine").data.to_dict()["model-index"]
    spoil(index[0]["results"][0])
    assert [one for one in problems(made(**{"model-index": index})) if expected in one] != []


def test_no_metadata_is_a_problem():
    assert problems(ModelCard("# mine\n")) != []
