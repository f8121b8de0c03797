"""Recipes: what is accepted, and what a mistake is told."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from toolkit import config
from toolkit.engine.types import Sampling
from toolkit.errors import UserError
from toolkit.hub import DraftFrom, ModelConfig


@dataclass
class Recipe:
    target: ModelConfig
    drafts: list[ModelConfig] = field(default_factory=list)
    sampling: Sampling = field(default_factory=Sampling)
    methods: list[Any] = field(default_factory=list)
    proposer: Any = "none"


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("# a command\ntarget: gpt2\nsampling:\n  temperature: 0.5\nmethods: [ngram]\nproposer: ngram\n")
    return path


def test_a_bare_string_is_a_model(recipe):
    loaded = config.load(Recipe, recipe, ["drafts=[a, {name: b, draft_from: {layers: [0, 2]}}]"])
    assert loaded.target == ModelConfig("gpt2")
    assert loaded.drafts == [ModelConfig("a"), ModelConfig("b", draft_from=DraftFrom([0, 2]))]


def test_overrides_win(recipe):
    loaded = config.load(
        Recipe,
        recipe,
        ["sampling.temperature=1.0", "methods=[ngram,topk]", "target=tiny-random:llama", 'sampling.stop=["\\n"]'],
    )
    assert loaded.sampling == Sampling(temperature=1.0, stop=("\n",))
    assert loaded.methods == ["ngram", "topk"]
    assert loaded.target.name == "tiny-random:llama"


def test_an_override_reaches_below_a_bare_string(recipe):
    loaded = config.load(
        Recipe, recipe, ["target.dtype=float32", "proposer.max=8", "drafts=[a, b]", "drafts.1.quant=4bit"]
    )
    assert loaded.target == ModelConfig("gpt2", dtype="float32")
    assert loaded.proposer == {"type": "ngram", "max": 8}
    assert loaded.drafts == [ModelConfig("a"), ModelConfig("b", quant="4bit")]


def test_a_later_override_wins(recipe):
    assert config.load(Recipe, recipe, ["target=a", "target=b"]).target.name == "b"


def test_unknown_key_names_file_line_key_and_the_nearest(recipe):
    recipe.write_text("target: gpt2\nsampling:\n  seed: 1\n  temperatur: 0.5\n")
    with pytest.raises(UserError) as caught:
        config.load(Recipe, recipe, [])
    message = str(caught.value)
    assert message.startswith(f"{recipe}:4: unknown key 'sampling.temperatur'. Did you mean 'temperature'?")
    assert "max_new_tokens" in message


def test_unknown_key_in_a_list_has_its_full_path(recipe):
    recipe.write_text("target: gpt2\ndrafts:\n  - a\n  - {name: b, dtyp: float32}\n")
    with pytest.raises(UserError, match=r":4: unknown key 'drafts.1.dtyp'. Did you mean 'dtype'"):
        config.load(Recipe, recipe, [])


def test_unknown_key_in_an_override_names_the_override(recipe):
    with pytest.raises(UserError, match=r"^override 'samplin.seed=1': unknown key 'samplin'. Did you mean 'sampling'"):
        config.load(Recipe, recipe, ["samplin.seed=1"])


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("sampling: {top_k: four}", r":2: key 'sampling.top_k': .*'four'.*Integer"),
        ("sampling: {top_k: 1.5}", r":2: key 'sampling.top_k': .*1.5"),
        ("sampling: 3", r":2: key 'sampling': expected a mapping"),
        ("methods: {a: 1}", r":2: key 'methods': expected a list; got {'a': 1}"),
        ("drafts: [{name: a, dtype: float63}]", r":2: key 'drafts.0.dtype': .*float63.*bfloat16"),
        ("drafts: [{dtype: float32}]", r":2: key 'drafts.0.name' is missing"),
        ("target: other", r":2: not valid YAML: found duplicate key target"),
        ("methods: [a", r":3: not valid YAML"),
    ],
)
def test_a_wrong_value_names_line_and_key(recipe, line, expected):
    recipe.write_text(f"target: gpt2\n{line}\n")
    with pytest.raises(UserError, match=expected):
        config.load(Recipe, recipe, [])


def test_a_missing_key_is_named(recipe):
    recipe.write_text("methods: []\n")
    with pytest.raises(UserError, match="key 'target' is missing"):
        config.load(Recipe, recipe, [])


def test_a_date_is_a_text_in_a_file_and_in_an_override(tmp_path):
    path = tmp_path / "dated.yaml"
    path.write_text("target: gpt2\nproposer: {type: a, start: 2024-09-01}")
    for overrides in ([], ["proposer.start=2024-09-01"], ["proposer={type: a, start: 2024-09-01}"]):
        assert config.load(Recipe, path, overrides).proposer["start"] == "2024-09-01"


@pytest.mark.parametrize("override", ["seed", "=3", "a..b=1", "methods.5=ngram", "methods=[a"])
def test_a_malformed_override_is_refused(recipe, override):
    with pytest.raises(UserError, match="override"):
        config.load(Recipe, recipe, [override])


def test_a_recipe_that_is_no_mapping_is_refused(recipe):
    recipe.write_text("- a\n- b\n")
    with pytest.raises(UserError, match="a recipe is a mapping"):
        config.load(Recipe, recipe, [])


def test_a_missing_recipe_suggests_a_near_name():
    with pytest.raises(UserError, match=r"no such recipe file"):
        config.load(Recipe, "recipes/eval/nothing_like_it.yaml", [])


def test_shipped_recipes_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config.find_recipe("recipes/eval/methods/ngram.yaml").is_file()


def test_a_piece_is_a_name_or_a_mapping():
    module, options = config.piece("proposers", {"type": "ngram", "max": 8}, "r.yaml")
    assert (options.min, options.max) == (2, 8)
    assert module.__name__ == "toolkit.proposers.ngram"
    assert config.piece("proposers", "ngram", "r.yaml")[1].max == 4


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ("ngrm", "r.yaml: unknown type 'ngrm' in proposers. Did you mean 'ngram'.*draft_model, eagle3, ngram, none"),
        ({"max": 3}, "r.yaml: expected a name or a mapping with a 'type'"),
        ({"type": "ngram", "maximum": 3}, "r.yaml 'ngram': unknown key 'maximum'. Did you mean 'max'"),
    ],
)
def test_a_wrong_piece_says_what_exists(node, expected):
    with pytest.raises(UserError, match=expected):
        config.piece("proposers", node, "r.yaml")
