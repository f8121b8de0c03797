"""LoRA adapters and artifacts as models: merged in order, bound to their target, refused where they do not fit."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.artifacts import TINY, config, draft_lora, lora, manifest, target_lora
from toolkit import artifact, binding, prune, sources, tiny
from toolkit.errors import UserError
from toolkit.hub import DraftFrom, Models, load_hf

IDS = torch.tensor([list(b"Hello, 12 + 30 = ?")])


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    monkeypatch.setenv("DRAFTSMITH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sources, "_snapshot", lambda *_: (None, "no network"))


@torch.no_grad()
def logits(model):
    return model(IDS).logits


def test_a_merged_adapter_computes_what_peft_does_unmerged(tmp_path):
    unmerged = lora(tmp_path / "a")
    plain, _ = load_hf(config())
    merged, _ = load_hf(config(adapters=[str(tmp_path / "a")]))
    assert (logits(merged) - logits(plain)).abs().max() > 0.1
    torch.testing.assert_close(logits(merged), unmerged(IDS), atol=1e-5, rtol=1e-5)
    assert all(parameter.requires_grad for parameter in merged.parameters())
    half, _ = load_hf(config(adapters=[str(tmp_path / "a")], dtype="bfloat16"))
    assert half.dtype == torch.bfloat16


def test_adapters_are_merged_in_order_before_pruning(tmp_path):
    first, second = str(tmp_path / "a"), str(tmp_path / "b")
    lora(tmp_path / "a", seed=1)
    unmerged = lora(tmp_path / "b", config(adapters=[first]), seed=2)
    both, _ = load_hf(config(adapters=[first, second]))
    torch.testing.assert_close(logits(both), unmerged(IDS), atol=1e-5, rtol=1e-5)
    draft, _ = load_hf(config(adapters=[first, second], draft_from=DraftFrom([1])))
    torch.testing.assert_close(logits(draft), logits(prune.pruned(both, [1], TINY)))


def test_an_adapter_makes_another_model_for_the_records(tmp_path):
    lora(tmp_path / "a", seed=1)
    lora(tmp_path / "b", seed=2)
    names = [[], [str(tmp_path / "a")], [str(tmp_path / "b")], [str(tmp_path / "a"), str(tmp_path / "b")]]
    runs = [Models(config(adapters=each)) for each in names]
    fingerprints = {run.provenance[run.config.label]["fingerprint"] for run in runs}
    assert len(fingerprints) == len(runs)
    assert len({run.identity()["fingerprint"] for run in runs}) == 1
    assert runs[1].identity()["adapters"] == [artifact.digest(tmp_path / "a")]
    draft = config("target", draft_from=DraftFrom([0]))  # has its target's adapters
    runs[1].load(draft)
    assert runs[1].provenance.keys() == {f"{TINY} + {tmp_path / 'a'}"}
    lora(tmp_path / "a", seed=3)  # other weights in the same place
    assert (
        Models(config(adapters=names[1])).provenance[runs[1].config.label] != runs[1].provenance[runs[1].config.label]
    )


def test_what_is_no_safetensors_lora_is_refused(tmp_path):
    with pytest.raises(UserError, match="no adapter_config.json there"):
        load_hf(config(adapters=[str(tmp_path / "nowhere")]))
    lora(tmp_path / "a")
    weights = tmp_path / "a" / "adapter_model.safetensors"
    tensors = load_file(weights)
    weights.rename(weights.with_name("adapter_model.bin"))
    with pytest.raises(UserError, match=r"only adapter_model\.bin, a pickle, which is never loaded"):
        load_hf(config(adapters=[str(tmp_path / "a")]))
    weights.write_bytes(b"no safetensors")
    with pytest.raises(UserError, match="not a readable safetensors file"):
        load_hf(config(adapters=[str(tmp_path / "a")]))
    save_file(tensors, weights)
    load_hf(config(adapters=[str(tmp_path / "a")]))
    settings = tmp_path / "a" / "adapter_config.json"
    settings.write_text(settings.read_text().replace('"LORA"', '"IA3"'))
    with pytest.raises(UserError, match="key 'peft_type' is 'IA3'; expected 'LORA'"):
        load_hf(config(adapters=[str(tmp_path / "a")]))


def test_quantised_models_take_no_adapters(tmp_path):
    target_lora(tmp_path / "a")
    with pytest.raises(UserError, match="adapters needs quant: none, got 4bit"):
        load_hf(config(adapters=[str(tmp_path / "a")], quant="4bit"))
    with pytest.raises(UserError, match="needs quant: none, got 8bit"):
        load_hf(config(str(tmp_path / "a"), quant="8bit"))


# ---- the wrong base model


def test_shapes_that_do_not_fit_name_both_models(tmp_path):
    lora(tmp_path / "a")
    settings = tmp_path / "a" / "adapter_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"base_model_name_or_path": "/models/base"}))
    model, tokenizer = tiny.build("tiny-random:llama")
    wide = type(model)(type(model.config)(**{**model.config.to_dict(), "hidden_size": 128}))
    wide.save_pretrained(tmp_path / "wide")
    tokenizer.save_pretrained(tmp_path / "wide")
    with pytest.raises(UserError, match=r"does not fit '.*wide' \(it was trained on '/models/base'\): .*has shape"):
        load_hf(config(str(tmp_path / "wide"), adapters=[str(tmp_path / "a")]))
    with pytest.raises(UserError, match=r"does not fit 'tiny-random:gpt2'.*there is no model\.layers\.0"):
        load_hf(config("tiny-random:gpt2", adapters=[str(tmp_path / "a")]))


def test_an_adapter_of_fewer_layers_is_not_half_merged(tmp_path):
    lora(tmp_path / "a", config(draft_from=DraftFrom([0])))
    with pytest.raises(UserError, match=r"has no weights for base_model.*layers\.1.*fewer layers"):
        load_hf(config(adapters=[str(tmp_path / "a")]))


def test_another_repository_is_refused(tmp_path):
    lora(tmp_path / "a")
    settings = tmp_path / "a" / "adapter_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"base_model_name_or_path": "some/other"}))
    with pytest.raises(UserError, match=f"was trained on 'some/other', not on '{TINY}'.*base_model_name_or_path"):
        load_hf(config(adapters=[str(tmp_path / "a")]))
    artifact.write(tmp_path / "a", manifest(base={"name": "smollm2-135m"}))
    with pytest.raises(UserError, match=f"was trained on 'smollm2-135m', not on '{TINY}'.*base.name"):
        load_hf(config(adapters=[str(tmp_path / "a")]))
    artifact.write(tmp_path / "a", manifest(base={"name": TINY}))
    load_hf(config(adapters=[str(tmp_path / "a")]))


def test_a_tampered_adapter_is_refused(tmp_path):
    path = target_lora(tmp_path / "a")
    weights = tmp_path / "a" / "adapter_model.safetensors"
    save_file({key: tensor + 1 for key, tensor in load_file(weights).items()}, weights)
    for model in (config(adapters=[path]), config(path)):
        with pytest.raises(UserError, match="damaged or was changed after training"):
            load_hf(model)


BOUND = {"name": "owner/model", "fingerprint": "f" * 64, "tokenizer": "t" * 64, "adapters": []}


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"name": "owner/other", "fingerprint": "0" * 64}, "the model: 'owner/model' there, 'owner/other' here"),
        ({"tokenizer": "0" * 64}, "the tokenizer: 't{12}...' there, '0{12}...' here"),
        ({"adapters": ["a" * 64]}, "adapters .*: 'none' there, 'a{12}...' here"),
    ],
)
def test_a_binding_to_another_model_is_refused(tmp_path, found, message):
    binding.check(tmp_path, BOUND, BOUND)
    with pytest.raises(UserError, match=f"manifest.json: key 'binds': trained for another model. .*{message}"):
        binding.check(tmp_path, BOUND, BOUND | found)


def test_other_weights_of_the_same_model_are_a_warning(tmp_path, capsys):
    short, full = "smollm2-135m", sources.SHORT_NAMES["smollm2-135m"]
    binding.check(tmp_path, BOUND | {"name": full}, BOUND | {"name": short, "fingerprint": "0" * 64})
    assert "trained with other weights of HuggingFaceTB/SmolLM2-135M-Instruct" in capsys.readouterr().err
    binding.check(tmp_path, BOUND, BOUND | {"name": str(tmp_path)})  # the same weights in another place
    assert not capsys.readouterr().err


# ---- artifacts as models


def test_a_lora_artifact_is_its_base_with_the_lora(tmp_path):
    path = target_lora(tmp_path / "a")
    named, _ = load_hf(config(path))
    spelled, _ = load_hf(config(adapters=[path]))
    assert torch.equal(logits(named), logits(spelled))
    assert Models(config(path)).identity() == Models(config(adapters=[path])).identity()
    (tmp_path / "a" / artifact.MANIFEST).unlink()
    with pytest.raises(UserError, match="a LoRA without manifest.json.*Write {name: MODEL, adapters:"):
        load_hf(config(path))


def test_a_draft_lora_is_merged_into_the_pruned_target(tmp_path):
    target = config(adapters=[target_lora(tmp_path / "cot")])
    models = Models(target)
    path, unmerged = draft_lora(tmp_path / "draft", models.identity(), target, [1])
    draft, _ = load_hf(config(path), target)
    torch.testing.assert_close(logits(draft), unmerged(IDS), atol=1e-5, rtol=1e-5)
    runner = models.load(config(path))
    assert (runner.n_layers, models.target.n_layers) == (1, 2)
    assert models.provenance[path]["fingerprint"] != models.provenance[target.label]["fingerprint"]
    with pytest.raises(UserError, match="is made of its target .*name a target too"):
        load_hf(config(path))


def test_a_draft_of_another_target_is_refused(tmp_path):
    cot, cod = target_lora(tmp_path / "cot", seed=1), target_lora(tmp_path / "cod", seed=2)
    target = config(adapters=[cot])
    path, _ = draft_lora(tmp_path / "draft", Models(target).identity(), target, [1])
    for other in (config(), config(adapters=[cod]), config(adapters=[cot, cod])):
        with pytest.raises(UserError, match="trained for another model. tiny-random:llama with adapters"):
            Models(other).load(config(path))
    with pytest.raises(UserError, match="the model: 'tiny-random:llama' there, 'tiny-random:llama:1' here"):
        Models(config("tiny-random:llama:1")).load(config(path))


def test_a_whole_draft_model_is_bound_too(tmp_path):
    target = config()
    model, tokenizer = load_hf(dataclasses.replace(target, draft_from=DraftFrom([0])))
    model.save_pretrained(tmp_path / "draft")
    tokenizer.save_pretrained(tmp_path / "draft")
    binds = {"target": Models(target).identity()}
    artifact.write(tmp_path / "draft", manifest(kind="model", provides=["draft"], base={}, binds=binds))
    path = str(tmp_path / "draft")
    assert Models(target).load(config(path)).n_layers == 1
    with pytest.raises(UserError, match="trained for another model. the model"):
        Models(config("tiny-random:llama:1")).load(config(path))
    (tmp_path / "draft" / "generation_config.json").write_text("{}")
    with pytest.raises(UserError, match=r"generation_config\.json: SHA-256 is"):
        Models(target).load(config(path))
