"""A draft distilled from a tiny target: trained as a user starts it, saved, reloaded, drafting."""

import json
import re

import pytest
import torch

from tests.training.distilling import STEPS, Distilling
from tests.training.runs import furthest
from toolkit import adapters, config, methods
from toolkit.engine.types import Request, Sampling
from toolkit.hub import ModelConfig, Models
from toolkit.loading import identify
from toolkit.training import texts
from toolkit.training.texts import TextsConfig

RISEN = 1.0  # tau on held-out answers, above that of the untrained layer (about 1.0); it comes to about 3
OPTIONS = {  # overrides, kind, files
    "vocabulary": (["vocabulary.size=40"], "delta", {"model.safetensors", "vocabulary.safetensors"}),
    "frozen head": (
        ["vocabulary.size=40", "frozen=[embed_tokens,lm_head]"],
        "delta",
        {"model.safetensors", "vocabulary.safetensors"},
    ),
    "lora": (["lora.rank=8", "frozen=[]"], "lora", {"adapter_model.safetensors"}),
    "model": (["student=tiny-random:llama:3"], "model", {"model.safetensors"}),
    "lora of a model": (["student=tiny-random:llama:3", "lora.rank=8", "frozen=[]"], "lora", set()),
    "mix": (["loss={mix: {jsd: 0.5, tv: 1.0, ce: 0.1}, temperature: 2.0}"], "delta", set()),
    "on policy": (["on_policy.share=0.3"], "delta", set()),
}


def target_of(adapted):
    return config.parse(ModelConfig, adapted, "test")


def drafting(draft, k):
    """The method that decodes with this draft."""
    node = {"name": "draft", "proposer": {"type": "draft_model", "model": {"name": str(draft)}}}
    return methods.resolve(node | {"length": {"type": "fixed", "k": k}}, "test")


def decoded_tau(adapted, held_out, draft, k=4):
    """By the decoding loop, greedily, over as many tokens as were recorded."""
    decoder = methods.decoder(drafting(draft, k), Models(target_of(adapted)))
    tokens = rounds = 0
    for i, text in enumerate(held_out):
        (done,) = decoder.generate([Request(i, text.prompt)], Sampling(max_new_tokens=len(text.answer)))
        assert tuple(done.tokens) == text.answer
        tokens, rounds = tokens + len(done.tokens), rounds + len(done.windows)
    return tokens / rounds


def held_out_of(adapted, answers):
    settings = TextsConfig([str(answers)], valid=0.2)
    return texts.load(settings, identify(target_of(adapted)), "test").valid


def test_tau_on_held_out_answers_rises(distilled):
    training = distilled.training()
    assert training["untrained"]["tau"] < 1.2
    assert distilled.gain() > RISEN
    assert training["best"]["tau"] == max(row["tau"] for row in training["curve"])
    assert training["steps"] == STEPS


def test_the_tau_of_the_trainer_is_that_of_decoding(distilled, adapted, answers):
    found = decoded_tau(adapted, held_out_of(adapted, answers), distilled.out)
    assert found == pytest.approx(distilled.training()["best"]["tau"], abs=0.01)


def test_the_manifest_is_complete(distilled, adapted):
    manifest = distilled.manifest()
    assert (manifest["kind"], manifest["provides"]) == ("delta", ["draft"])
    assert manifest["base"] == {"name": "target", "draft_from": {"layers": [1]}}
    assert manifest["shares"] == ["model.embed_tokens"]
    assert manifest["binds"] == {"target": Models(target_of(adapted)).identity()}
    assert re.fullmatch(r"accelerate launch train/\w+.py \S+distil.yaml", manifest["recipe"]["command"])
    assert manifest["data"]["rows"] > 0 and manifest["data"]["answer_tokens"] > 0
    assert manifest["smoke"]["accepted"] > 0
    assert not distilled.work.exists()


def test_what_the_target_has_is_not_stored(distilled):
    names = distilled.weights().keys()
    assert "model.layers.0.self_attn.q_proj.weight" in names and "model.norm.weight" in names
    assert not [name for name in names if "embed_tokens" in name or "layers.1" in name]


@pytest.mark.parametrize("name", OPTIONS)
def test_options(name, adapted, answers, tmp_path):
    overrides, kind, files = OPTIONS[name]
    made = Distilling(tmp_path, adapted, answers)
    assert made.run(*overrides, "train.epochs=4") == 0
    manifest = made.manifest()
    assert manifest["kind"] == kind and files <= manifest["files"].keys()
    assert ("base" in manifest["binds"]) == (name == "lora of a model")
    assert manifest["shares"] == {"frozen head": ["lm_head", "model.embed_tokens"], "model": []}.get(
        name, [] if kind == "lora" else ["model.embed_tokens"]
    )
    if kind == "lora":  # the same adapter is the same file
        targets = json.loads((made.out / adapters.CONFIG).read_text())["target_modules"]
        assert len(targets) > 1 and targets == sorted(targets)
    assert made.gain() > RISEN / 2
    found = decoded_tau(adapted, held_out_of(adapted, answers), made.out)
    assert found == pytest.approx(made.training()["best"]["tau"], abs=0.01)


def test_kept_hidden_states_train_the_same_draft(adapted, answers, tmp_path):
    made = []
    for name, extra in (
        ("computed", []),
        ("kept", ["features.keep=true", f"features.directory={tmp_path / 'states'}"]),
    ):
        (tmp_path / name).mkdir()
        made.append(Distilling(tmp_path / name, adapted, answers))
        assert made[-1].run("train.epochs=1", *extra) == 0
    assert list((tmp_path / "states").rglob("*.safetensors"))
    assert furthest(made[0].weights(), made[1].weights()) < 1e-5


def test_stored_in_bfloat16_by_default(adapted, answers, tmp_path):
    made = Distilling(tmp_path, adapted, answers)
    assert made.run("train.epochs=1", "stored=bfloat16") == 0
    assert {tensor.dtype for tensor in made.weights().values()} == {torch.bfloat16}
