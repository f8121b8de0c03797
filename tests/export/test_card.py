"""The model card: what the hub would refuse, and that no figure is in it that the manifest does not have."""

import dataclasses
import json
import re

import pytest
import yaml
from huggingface_hub import ModelCard

from tests.artifacts import manifest
from tests.export.filled import DELTA, DRAFT, FILLED, HEAD
from toolkit import artifact, cli, config, methods
from toolkit.errors import UserError
from toolkit.evaluation.recipe import EvalRecipe
from toolkit.export import card, usage
from toolkit.export.metadata import problems


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


@pytest.mark.parametrize("fields", [FILLED, DRAFT, HEAD, DELTA, {}], ids=["target", "draft", "head", "delta", "bare"])
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


def test_a_head_and_what_it_was_trained_to():
    text = card.render(manifest(**HEAD), "mine").text
    for said in (
        "an EAGLE-3 head in the speculators format",
        "not stored, as they are its target's: `embed_tokens`",
        "| 285 | 2.72 | 43.2% | 68.9%, 47.1%, 32.2% |",
        "--merge path/to/mine-exported --verifier path/to/target-merged",
        "vllm serve path/to/mine-exported",
    ):
        assert said in text
    assert "from_pretrained" not in text, "transformers has no such model"


def test_a_delta_is_used_elsewhere_as_the_full_model():
    text = card.render(manifest(**DELTA), "mine").text
    assert "--merge path/to/mine-merged --target-adapter path/to/adapter-555555555555" in text
    assert '"model": "path/to/mine-merged"' in text
    assert "from_pretrained" not in text


@pytest.mark.parametrize("fields", [FILLED, DRAFT, HEAD, DELTA, DRAFT | {"kind": "model"}, FILLED | {"kind": "model"}])
def test_the_recipe_lines_are_a_recipe(fields):
    lines = yaml.safe_load(usage.recipe(manifest(**fields), "path/to/mine"))
    parsed = config.parse(EvalRecipe, lines | {"task": "steps"}, "the card")
    for method in parsed.methods:
        proposer = methods.resolve(method, "the card").proposer
        assert "path/to/mine" in (proposer.get("head"), proposer.get("model", {}).get("name"))
    assert parsed.methods or "path/to/mine" in [parsed.target.name, *parsed.use]


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
