"""Every training recipe is read by its program, fits the others of its pipeline, and configures what can be built."""

import importlib.util
from collections import Counter

import pytest

from tests.recipes.shipped import (
    ACCEPTANCE_HEADS,
    COLLECTED,
    DISTILLED,
    GATES,
    HEADS,
    JUDGES,
    LARGE,
    LORA,
    PIPELINES,
    POLICIES,
    ROOT,
    ROUTERS,
    TRAIN,
    command,
    launched,
    processes,
    program,
)
from toolkit import config
from toolkit.errors import UserError
from toolkit.training import lora, pipeline, recipe
from toolkit.training.teacher import TeachRecipe

OTHERS = {"train/teach.py": lambda path: config.load(TeachRecipe, path, [])}  # beside those that accelerate launches


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
    """Recipes name each other by paths from the repository's root."""
    monkeypatch.chdir(ROOT)


@pytest.fixture
def with_bitsandbytes(monkeypatch):
    """As if it were installed: recipes for GPUs may ask for its optimizers."""
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found("json" if name == "bitsandbytes" else name))


def test_there_are_recipes_of_all_sizes():
    for folder in ("smollm2", *LARGE):
        assert len([path for path in LORA if path.parts[2] == folder]) >= 4
        assert len([path for path in PIPELINES if path.parts[2] == folder]) >= 2


@pytest.mark.parametrize("path", TRAIN, ids=str)
def test_the_first_line_runs_this_very_file(path):
    words = command(path)
    assert words[-1] == str(path)
    assert (ROOT / program(path)).is_file()
    if program(path) in OTHERS:
        assert words[0] == "python"
        OTHERS[program(path)](path)
    else:
        learned = ACCEPTANCE_HEADS + POLICIES + JUDGES + GATES + ROUTERS
        assert path in LORA + PIPELINES + COLLECTED + HEADS + DISTILLED + learned
        assert words[:3] == ["accelerate", "launch", "--config_file"]
        assert launched(path).is_file()


@pytest.mark.parametrize("path", LORA, ids=str)
def test_a_lora_recipe_configures_trainer_and_adapter(path, tmp_path, with_bitsandbytes, monkeypatch):
    read = recipe.load(path, [])
    for number, node in enumerate(read.data.tasks):
        config.piece("tasks", node, f"{path}: data.tasks.{number}")
    if "fsdp" in launched(path).stem:
        monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    lora.check_optimizer(read.train.optimizer, path)
    arguments = lora.arguments(read, tmp_path)
    assert (arguments.learning_rate, arguments.num_train_epochs) == (read.train.lr, read.train.epochs)
    assert arguments.gradient_checkpointing is read.train.checkpointing
    assert (arguments.optim, arguments.lr_scheduler_type) == (read.train.optimizer, read.train.schedule)
    assert arguments.save_steps % arguments.eval_steps == 0  # else the best one may not have been saved
    adapter = lora.adapter_config(read)
    assert (adapter.r, adapter.lora_alpha) == (read.lora.rank, read.lora.alpha)
    assert adapter.target_modules == set(read.lora.targets)


def test_no_two_recipes_write_to_one_place():
    outs = Counter(recipe.load(path, []).out for path in LORA)
    answers = Counter(pipeline.load(path, []).answers.path for path in PIPELINES)
    assert max(outs.values()) == max(answers.values()) == 1


@pytest.mark.parametrize("path", PIPELINES, ids=str)
def test_the_stages_of_a_pipeline_fit_together(path):
    chain = pipeline.load(path, [])
    target, draft = recipe.load(chain.target, []), recipe.load(chain.draft, [])
    pipeline._check(chain, target, draft, path)
    assert draft.target.name == target.model.name
    assert draft.data.thinking is target.data.thinking
    assert {launched(path)} == {launched(stage) for stage in (chain.target, chain.draft)}
    tiers = {tier for task in target.data.tasks for tier in task.get("tiers", [task["type"]])}
    assert set(chain.answers.gates.accuracy) <= tiers


@pytest.mark.parametrize("folder", LARGE)
@pytest.mark.parametrize("style", ["cot", "cod"])
def test_the_large_recipes_have_the_published_parameters(folder, style):
    path = f"recipes/train/{folder}/{style}.yaml"
    chain = pipeline.load(path, [])
    target, draft = recipe.load(chain.target, []), recipe.load(chain.draft, [])
    for stage in (target, draft):
        train, lora_settings, data = stage.train, stage.lora, stage.data
        assert (lora_settings.rank, lora_settings.alpha, lora_settings.dropout) == (16, 32, 0.0)
        assert len(lora_settings.targets) == 7
        assert (train.lr, train.schedule, train.warmup, train.epochs, train.seed) == (2e-4, "cosine", 0.03, 3, 42)
        assert (data.max_length, data.valid, data.thinking) == (2048, 0.1, False)
        assert data.tasks == [{"type": "cod_cot_pairs", "style": style, "tiers": ["easy", "medium", "hard"]}]
    rows = [stage.train.batch * stage.train.accumulate * processes(path) for stage in (target, draft)]
    assert rows == [2 * 4, 8 * 2]  # an update, over all GPUs
    assert (target.train.eval_every, draft.train.eval_every) == (50, 20)
    assert (chain.answers.engine, chain.answers.max_new_tokens, chain.answers.temperature) == ("vllm", 1024, 0.0)
    assert chain.answers.gates.marked == 0.95
    assert chain.answers.gates.accuracy == {"easy": 0.85, "medium": 0.75, "hard": 0.60}
    assert draft.model.name != "target"  # a model of its own, not made of its target


def read_with(tmp_path, optimizer):
    """A recipe whose model cannot be loaded: whatever is refused is so before that is tried."""
    path = tmp_path / "r.yaml"
    path.write_text(
        "model: not-there\ndata: {tasks: [{type: steps, split: train}]}\n"
        f"train: {{optimizer: {optimizer}}}\nout: {tmp_path}/out\n"
    )
    return recipe.load(path, [])


def refused(tmp_path, optimizer):
    with pytest.raises(UserError) as error:
        lora.run(read_with(tmp_path, optimizer), {"path": "r.yaml"})
    return str(error.value)


def test_an_8_bit_optimizer_needs_bitsandbytes(tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else found(name))
    message = refused(tmp_path, "adamw_8bit")
    assert message.startswith(
        "r.yaml: key 'train.optimizer': adamw_8bit needs bitsandbytes: `pip install bitsandbytes`"
    )


def test_an_8_bit_optimizer_is_refused_under_fsdp(tmp_path, with_bitsandbytes, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert "accelerate_configs/deepspeed_zero3.yaml" in refused(tmp_path, "paged_adamw_8bit")
    assert (ROOT / "accelerate_configs/deepspeed_zero3.yaml").is_file()


def test_an_unknown_optimizer_is_refused_with_what_was_meant(tmp_path):
    assert "'adamw_torhc'. Did you mean 'adamw_torch'" in refused(tmp_path, "adamw_torhc")
