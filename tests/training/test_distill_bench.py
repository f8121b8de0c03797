"""Our distillation beside TRL's: the same loss on the same tokens, and a bench that runs."""

import json
from pathlib import Path

import pytest
from datasets import Dataset

from toolkit import config, hub
from toolkit.loading import ModelConfig, identify
from toolkit.training import distill, distill_bench, features, texts, trl_distill
from toolkit.training.distill import DistillRecipe
from toolkit.training.distill_learner import DistillLearner, OnPolicyConfig
from toolkit.training.features import FeaturesConfig
from toolkit.training.fit import FitConfig
from toolkit.training.losses import LossConfig
from toolkit.training.texts import TextsConfig


@pytest.fixture
def recipe(adapted, answers):
    target = config.parse(ModelConfig, adapted | {"device": "cpu"}, "test")
    student = config.parse(ModelConfig, {"name": "target", "draft_from": {"layers": [1]}}, "test")
    return DistillRecipe(target, TextsConfig([str(answers)], valid=0.2), student=student)


@pytest.mark.parametrize("loss", trl_distill.BETAS)
def test_the_loss_and_its_gradients_are_those_of_trl(loss, recipe, tmp_path):
    chosen = texts.load(recipe.data, identify(recipe.target), "test").train[:8]
    teacher = features.teacher(recipe.target, FeaturesConfig())
    ours, theirs = (distill.student(recipe, teacher, chosen, "test") for _ in range(2))
    total, _ = DistillLearner(ours, teacher, LossConfig(loss), 4, OnPolicyConfig(), 0)(chosen)
    mean = total / sum(len(text.answer) for text in chosen)
    mean.backward()
    model, tokenizer = hub.load_hf(recipe.target)
    trainer = trl_distill.OffPolicyTrainer(
        model=theirs.model,
        teacher_model=model,
        args=trl_distill.arguments(FitConfig(), loss, tmp_path, on_gpu=False),
        train_dataset=Dataset.from_dict({"prompt": [""]}),
        processing_class=tokenizer,
    )
    rows = [{"prompt_ids": list(text.prompt), "completion_ids": list(text.answer)} for text in chosen]
    value = trainer.compute_loss(trainer.model.train(), trainer._prepare_inputs(rows))
    value.backward()
    assert mean.item() > 0.1
    assert value.item() == pytest.approx(mean.item(), rel=1e-5)
    for mine, other in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        assert (mine.grad - other.grad).abs().max() <= 1e-5 * max(1.0, mine.grad.abs().max())


def test_the_bench_runs(adapted, answers, tmp_path, capsys):
    path, out = tmp_path / "bench.yaml", tmp_path / "bench.json"
    settings = {
        "target": adapted,
        "student": {"name": "target", "draft_from": {"layers": [1]}},
        "data": {"answers": [str(answers)], "valid": 0.2},
        "batch": 4,
        "updates": 3,
        "repeats": 2,
        "out": str(out),
    }
    path.write_text(json.dumps(settings))
    assert distill_bench.main([str(path)]) == 0
    result = json.loads(out.read_text())
    assert {name: len(taken) for name, taken in result["seconds"].items()} == {"ours": 2, "trl": 2}
    assert result["tokens_a_pass"] > result["answer_tokens_a_pass"] > 0
    speed = result["tokens_per_s"]
    assert result["ratio"] == pytest.approx(speed["ours"] / speed["trl"], abs=1e-3)
    assert not list(Path(tmp_path).glob("checkpoint*"))
    assert distill_bench.main([str(path), "updates=500"]) == 2
    assert "need 2000 texts" in capsys.readouterr().err
    assert distill_bench.main([str(path), "loss=tv"]) == 2
    assert "expected one of forward_kl, reverse_kl" in capsys.readouterr().err
