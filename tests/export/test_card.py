"""The model card: what the hub would refuse, and that no figure is in it that the manifest does not have."""

import dataclasses
import json
import re

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results

from tests.artifacts import manifest
from toolkit import artifact, cli, config, methods, registry
from toolkit.errors import UserError
from toolkit.evaluation.recipe import EvalRecipe
from toolkit.export import card, usage
from toolkit.export.metadata import DATASETS, LICENCES, problems

TARGET = {
    "name": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "fingerprint": "3" * 64,
    "tokenizer": "4" * 64,
    "adapters": ["5" * 64, "6" * 64],
}
METRICS = [
    {
        "task": "gsm8k",
        "style": "cod",
        "method": "drafted",
        "temperature": 0.7,
        "k": 4,
        "n": 24,
        "tau": 2.3456,
        "acceptance": [0.7123, 0.4321],
        "tokens_per_s": 61.27,
        "speedup": 1.418,
        "speedup_low": 1.307,
        "speedup_high": 1.522,
        "seconds_per_correct": 17.86,
        "lossless": True,
        "hardware": "an invented CPU",
        "result_file": "results/invented/summary.json",
    },
    {
        "task": "steps",
        "method": "baseline",
        "accuracy": 0.5372,
        "accuracy_low": 0.4681,
        "accuracy_high": 0.6049,
        "n": 201,
        "cut": 0.0149,
        "tokens": 83.4,
        "lossless": True,
    },
]
FILLED = {
    "base": {"name": "smollm2-135m"},
    "binds": {"target": TARGET | {"adapters": []}},
    "recipe": {
        "path": "recipes/train/mine.yaml",
        "command": "accelerate launch train/lora.py recipes/train/mine.yaml",
        "config": {"lora": {"rank": 16, "alpha": 32}, "train": {"lr": 0.0002}, "data": {"max_length": 384}},
    },
    "data": {
        "fingerprint": "7" * 64,
        "rows": 1140,
        "valid_rows": 59,
        "tokens": 181234,
        "sources": [{"type": "gsm8k", "split": "train", "limit": 200}],
        "dropped": {"overlong": 13},
    },
    "training": {
        "steps": 285,
        "epochs": 0.9876,
        "best_eval_loss": 0.43219,
        "world_size": 2,
        "eval_loss": [[20 * i, 2.0 - i / 31] for i in range(1, 15)],
        "hardware": {"cpu": "an invented CPU", "gpu": "", "threads": 3, "python": "3.99.1", "torch": "9.8.7"},
    },
    "metrics": METRICS,
    "smoke": {"prompts": 4, "tokens": 171},
}
DRAFT = FILLED | {
    "provides": ["draft"],
    "base": {"name": "target", "draft_from": {"layers": [0, 29]}},
    "binds": {"target": TARGET},
}


def made(**changes):
    """A card whose metadata has these changes; None takes a key away."""
    whole = card.render(manifest(**FILLED), "mine")
    data = {key: value for key, value in (whole.data.to_dict() | changes).items() if value is not None}
    return ModelCard(f"---\n{yaml.safe_dump(data)}---\n{whole.text}")


def tables(text):
    return [line for line in text.splitlines() if line.startswith("|") and not line.startswith("| ---")]


def numbers(text):
    return {number.replace(",", "") for number in re.findall(r"\d+(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?", text)}


def figures(node):
    """Every way in which the numbers of a manifest may be written in its card."""
    if isinstance(node, dict):
        return set().union(*(figures(value) for value in node.values()), *(numbers(key) for key in node))
    if isinstance(node, list):
        return set().union(*map(figures, node))
    if isinstance(node, str):
        return numbers(node)
    if isinstance(node, bool) or node is None:
        return set()
    ways = {f"{scale * node:.{digits}f}" for scale in (1, 100) for digits in (0, 1, 2, 4)}
    return {*ways, str(node), f"{node:.6g}"}


def prose(text):
    """The card without metadata and code."""
    return re.sub(r"`[^`]*`", "", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


# ---- figures


@pytest.mark.parametrize("fields", [FILLED, DRAFT, {}], ids=["target", "draft", "bare"])
def test_no_figure_is_in_the_card_that_is_not_in_the_manifest(fields):
    filled = manifest(**fields)
    text = card.render(filled, "mine").text
    known = figures(dataclasses.asdict(filled))
    assert numbers("\n".join(tables(text))) <= known
    assert numbers(prose(text)) - known <= {"95", "256"}, "the level of the intervals, and SHA-256"


def test_the_figures_of_the_manifest_are_in_the_tables():
    shown = numbers("\n".join(tables(card.render(manifest(**FILLED), "mine").text)))
    measured = {"2.35", "71", "43", "61.3", "1.42", "1.31", "1.52", "17.9", "24", "0.7", "53.7", "46.8", "60.5", "201"}
    assert measured | {"1.5", "83", "285", "0.43219", "2"} <= shown


def test_an_invented_figure_would_be_found():
    filled = manifest(**FILLED)
    text = card.render(filled, "mine").text.replace("2.35", "2.36")
    assert numbers("\n".join(tables(text))) - figures(dataclasses.asdict(filled)) == {"2.36"}


def test_without_measurements_it_says_so_and_has_no_results():
    rendered = card.render(manifest(**FILLED | {"metrics": []}), "mine")
    assert "Nothing measured yet." in rendered.text
    assert "model-index" not in rendered.data.to_dict()
    assert problems(rendered) == []


def test_a_row_with_only_some_figures_has_only_their_columns():
    row = {"task": "steps", "method": "baseline", "accuracy": 0.25, "n": 8}
    text = card.render(manifest(metrics=[row]), "mine").text
    assert "| task | method | n | accuracy |" in text
    assert "tau |" not in text


# ---- what it says


def test_a_target_adapter_is_described(tmp_path):
    text = card.render(manifest(**FILLED), "mine").text
    for said in (
        "[HuggingFaceTB/SmolLM2-135M-Instruct](https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct)",
        "accelerate launch train/lora.py recipes/train/mine.yaml",
        "{limit: 200, split: train, type: gsm8k}",
        "1,140 rows, 59 rows held out, 181,234 tokens",
        "dropped: 13 overlong",
        "7" * 64,
        "rank: 16",
        "PeftModel.from_pretrained",
        "results/invented/summary.json",
        "torch: `9.8.7`",
        "Licence: Apache-2.0",
    ):
        assert said in text
    assert "vllm" not in text


def test_a_draft_names_its_target_and_the_adapters_it_was_trained_with():
    text = card.render(manifest(**DRAFT), "mine").text
    assert "made of layers 0, 29 of its target" in text
    assert "with the LoRA adapters `555555555555`, `666666666666`" in text
    assert "--target-adapter path/to/adapter-555555555555 --target-adapter path/to/adapter-666666666666" in text
    assert "PeftModel" not in text, "an adapter of a pruned model does not fit the whole one"
    [line] = [line for line in text.splitlines() if line.startswith("vllm serve")]
    spoken = json.loads(re.search(r"'(.*)'", line)[1])
    assert spoken["method"] == "draft_model"
    assert spoken["model"] == "path/to/mine-merged"


@pytest.mark.parametrize("fields", [FILLED, DRAFT, DRAFT | {"kind": "model"}, FILLED | {"kind": "model"}])
def test_the_recipe_lines_are_a_recipe(fields):
    lines = yaml.safe_load(usage.recipe(manifest(**fields), "path/to/mine"))
    parsed = config.parse(EvalRecipe, lines | {"task": "steps"}, "the card")
    for method in parsed.methods:
        assert methods.resolve(method, "the card").proposer["model"].get("name") == "path/to/mine"
    assert parsed.methods or "path/to/mine" in [parsed.target.name, *parsed.use]


# ---- metadata


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


# ---- the file and the command


@pytest.fixture
def directory(tmp_path):
    path = tmp_path / "mine"
    path.mkdir()
    (path / "adapter_model.safetensors").write_bytes(b"invented")
    artifact.write(path, manifest(**FILLED))
    return path


def test_the_command_writes_the_card_and_says_where(directory, capsys):
    assert cli.main(["card", str(directory)]) == 0
    assert capsys.readouterr().out == f"{directory / 'README.md'}\n"
    assert card.read(directory).data.to_dict()["model-index"][0]["name"] == "mine"
    artifact.verify(directory)  # the card is no part of what the manifest vouches for


def test_a_card_written_twice_is_the_same(directory):
    first = card.write(directory).read_text()
    assert card.write(directory).read_text() == first
    assert sorted(path.name for path in directory.iterdir()) == [
        "README.md",
        "adapter_model.safetensors",
        "manifest.json",
    ]


def test_no_artifact_exits_2(tmp_path, capsys):
    assert cli.main(["card", str(tmp_path)]) == 2
    assert "no manifest.json" in capsys.readouterr().err


def test_online_asks_the_hub_and_reports_what_it_says(directory, monkeypatch, capsys):
    asked = []

    def validate(self):
        asked.append(str(self))
        raise ValueError('"base_model" is no model')

    monkeypatch.setattr(ModelCard, "validate", validate)
    assert cli.main(["card", str(directory)]) == 0
    assert asked == []
    assert cli.main(["card", str(directory), "--online"]) == 2
    assert '"base_model" is no model' in capsys.readouterr().err
    assert len(asked) == 1


def test_a_card_by_someone_else_is_not_read_as_ours(directory):
    (directory / "README.md").write_text("---\nlicense: mit\n---\n[More Information Needed]\n")
    with pytest.raises(UserError, match="lacks the tag 'draftsmith'"):
        card.read(directory)


@pytest.mark.parametrize("text", ["---\na: [\n---\n", "---\nmodel-index: [{name: x}]\n---\n"], ids=["yaml", "index"])
def test_a_card_that_does_not_parse_is_a_users_error(directory, text):
    (directory / "README.md").write_text(text)
    with pytest.raises(UserError, match="not readable as a model card"):
        card.read(directory)
