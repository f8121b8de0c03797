"""Resume keys change with what a row depends on, and with nothing else."""

import dataclasses

import pytest

from toolkit import methods
from toolkit.errors import UserError
from toolkit.evaluation import plan as planning
from toolkit.evaluation.measure import Block, Setting, resume_key
from toolkit.evaluation.outdir import OutDir
from toolkit.evaluation.prompts import Prompt
from toolkit.evaluation.recipe import EvalRecipe, SamplingConfig, SpeedConfig
from toolkit.hub import ModelConfig, Models
from toolkit.tasks._types import Problem

PROMPT = Prompt(Problem("p0", "1 + 1?", "2"), (5, 6, 7))
METHOD = {"proposer": {"type": "ngram", "min": 2, "max": 4}}
SETTING = Setting(
    task=None,
    sampling=SamplingConfig(),
    common={"target": {"name": "m"}, "sampling": {"temperature": 0.0}},
    speed=SpeedConfig(),
    session="a",
)
BLOCK = Block("speed", 0, [PROMPT], seed=0)


def key(setting=SETTING, method=METHOD, prompt=PROMPT, block=BLOCK):
    return resume_key(setting, method, prompt, block)


def test_what_a_row_depends_on_changes_its_key():
    replace = dataclasses.replace
    keys = [
        key(),
        key(setting=replace(SETTING, common=SETTING.common | {"sampling": {"temperature": 1.0}})),
        key(setting=replace(SETTING, common=SETTING.common | {"target": {"name": "n"}})),
        key(setting=replace(SETTING, common=SETTING.common | {"weights": "a"})),
        key(setting=replace(SETTING, speed=SpeedConfig(batch=8))),
        key(setting=replace(SETTING, speed=SpeedConfig(max_new_tokens=8))),
        key(method=METHOD | {"weights": {"d": "a"}}),
        key(method={"proposer": {"type": "ngram", "min": 2, "max": 8}}),
        key(prompt=replace(PROMPT, tokens=(5, 6, 8))),
        key(prompt=Prompt(Problem("p0", "1 + 1?", "3"), PROMPT.tokens)),
        key(prompt=Prompt(Problem("p1", "1 + 1?", "2"), PROMPT.tokens)),
        key(block=replace(BLOCK, set="quality")),
        key(block=replace(BLOCK, seed=1)),
        key(block=replace(BLOCK, repeat=1)),
    ]
    assert len(set(keys)) == len(keys)


TINY = "tiny-random:llama"
RECIPE = EvalRecipe(ModelConfig(TINY), task="jsonl")


def weights(models, proposer):
    method = methods.resolve({"name": "m", "proposer": proposer}, "a.yaml")
    return planning.contender(method, models, RECIPE).config["weights"]


def test_the_weights_are_in_the_keys():
    models = Models(RECIPE.target)
    own = planning.setting(RECIPE, models, "a", None).common["weights"]
    other = f"{TINY}:1"
    draft = weights(models, {"type": "draft_model", "model": other})
    assert draft.keys() == {other} and draft[other] != own
    # only the drafts of the method itself, though the other one is loaded by now
    pruned = {"type": "draft_model", "model": {"name": "target", "draft_from": {"layers": [0]}}}
    assert weights(models, pruned) == {TINY: own}
    assert weights(models, "ngram") == {}
    assert "not_loaded" not in planning.contender(methods.resolve("ngram", "a.yaml"), models, RECIPE).config
    assert planning.setting(RECIPE, Models(ModelConfig(other)), "a", None).common["weights"] == draft[other]


def test_a_revision_has_weights_of_its_own():
    models = Models(ModelConfig(TINY, revision="r1"))
    assert models.config.label == f"{TINY}@r1"
    draft = {"name": "target", "draft_from": {"layers": [0]}}
    assert weights(models, {"type": "draft_model", "model": draft}).keys() == {f"{TINY}@r1"}
    assert weights(models, {"type": "draft_model", "model": draft | {"revision": "r2"}}).keys() == {f"{TINY}@r2"}
    assert weights(models, {"type": "draft_model", "model": TINY}).keys() == {TINY}


def test_what_does_not_matter_leaves_it_alone():
    replace = dataclasses.replace
    other = Prompt(Problem("p1", "2 + 2?", "4"), (9,))
    quality = replace(BLOCK, set="quality")
    assert key(setting=replace(SETTING, session="b")) == key()
    assert key(block=replace(BLOCK, index=3, prompts=[PROMPT, other])) == key()  # more prompts, another place
    assert key(setting=replace(SETTING, speed=SpeedConfig(batch=8)), block=quality) == key(block=quality)
    assert key(prompt=Prompt(Problem("p0", "1 + 1?", "2", {"level": "5"}), PROMPT.tokens)) == key()


def test_a_prompts_randomness_follows_its_name():
    longer = Prompt(PROMPT.problem, (1, 2, 3, 4))
    other = Prompt(Problem("p1", "1 + 1?", "2"), PROMPT.tokens)
    assert PROMPT.request_id == longer.request_id != other.request_id
    assert 0 <= PROMPT.request_id < 2**63


IDENTITY = {"sampling": {"temperature": 0.0}, "methods": {"ngram": METHOD}}


def claim(path, identity, source="a.yaml"):
    with OutDir(path, source, identity) as out:
        out.add_session({"id": "s"})


def test_a_directory_takes_more_methods(tmp_path):
    claim(tmp_path, IDENTITY)
    claim(tmp_path, IDENTITY | {"methods": {"ngram": METHOD, "topk.2": {"k": 2}}}, "b.yaml")
    claim(tmp_path, IDENTITY | {"methods": {}})
    with pytest.raises(UserError, match=r"topk\.2\.k is 2 there, 3 in c\.yaml"):
        claim(tmp_path, IDENTITY | {"methods": {"topk.2": {"k": 3}}}, "c.yaml")


@pytest.mark.parametrize(
    ("identity", "key"),
    [
        (IDENTITY | {"sampling": {"temperature": 1.0}}, "sampling.temperature"),
        (IDENTITY | {"methods": {"ngram": {"proposer": {"type": "ngram", "min": 1, "max": 4}}}}, "proposer.min"),
        (IDENTITY | {"vocab": 7}, "vocab"),
    ],
)
def test_a_directory_of_another_recipe_is_refused(tmp_path, identity, key):
    claim(tmp_path, IDENTITY)
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(UserError, match=rf"a\.yaml.*{key}.*b\.yaml.*another out=DIR"):
        claim(tmp_path, identity, "b.yaml")
    assert (tmp_path / "run.json").read_bytes() == before


def test_two_processes_do_not_share_a_directory(tmp_path):
    with OutDir(tmp_path, "a.yaml", IDENTITY), pytest.raises(UserError, match="another process writes there"):
        claim(tmp_path, IDENTITY)
    claim(tmp_path, IDENTITY)  # and the lock goes with its holder


def test_rows_without_an_owner_are_left_alone(tmp_path):
    (tmp_path / "records.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match=r"no run\.json"):
        claim(tmp_path, IDENTITY)
