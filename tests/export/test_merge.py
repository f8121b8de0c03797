"""Merged directories: what plain transformers makes of them, when they go, and which are used again."""

import errno
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from tests.export.lora import random_lora
from toolkit import artifact, tiny
from toolkit.artifact import Manifest
from toolkit.errors import UserError
from toolkit.export import merge
from toolkit.export.merge import export_merged, merged_directory
from toolkit.hub import DraftFrom, ModelConfig, load_hf

BASE = ModelConfig("tiny-random:llama", device="cpu", dtype="float32")
PROMPT = torch.tensor([list(b"Ten apples and two")])


@pytest.fixture
def adapter(tmp_path):
    directory = tmp_path / "adapter"
    random_lora(BASE, directory, scale=0.3)
    return directory


@pytest.fixture
def model(adapter):
    return ModelConfig(BASE.name, device="cpu", dtype="float32", adapters=[str(adapter)])


def greedy(model, tokens=24):
    with torch.no_grad():
        return model.generate(PROMPT, attention_mask=torch.ones_like(PROMPT), max_new_tokens=tokens, do_sample=False)


def left_over(home):
    return [path for path in (home / "merged").rglob("*") if not path.name.endswith(".lock")]


def test_plain_transformers_writes_what_peft_writes(tmp_path, model):
    unmerged = random_lora(BASE, tmp_path / "again", scale=0.3)
    with merged_directory(model, tmp_path / "home") as directory:
        files = {path.name for path in directory.iterdir()}
        merged = AutoModelForCausalLM.from_pretrained(directory)
        tokenizer = AutoTokenizer.from_pretrained(directory)
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= files
    assert "adapter_config.json" not in files
    assert tokenizer("Wörld")["input_ids"] == tiny.byte_tokenizer()("Wörld")["input_ids"]
    assert torch.equal(greedy(merged), greedy(unmerged))
    assert not torch.equal(greedy(merged), greedy(load_hf(BASE)[0])), "this adapter changes nothing"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_merged_in_the_dtype_that_the_model_loads_in(tmp_path, adapter, dtype):
    model = ModelConfig(BASE.name, device="cpu", dtype=dtype, adapters=[str(adapter)])
    expected = load_hf(model)[0].state_dict()
    with merged_directory(model, tmp_path / "home") as directory:
        assert json.loads((directory / "config.json").read_text())["dtype"] == dtype
        saved = load_file(directory / "model.safetensors")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in saved.items())
    assert {str(tensor.dtype) for tensor in saved.values()} == {f"torch.{dtype}"}


def test_gone_after_the_block(tmp_path, model):
    with merged_directory(model, tmp_path) as directory:
        assert (directory / "model.safetensors").is_file()
    assert left_over(tmp_path) == []


def test_gone_when_the_block_raises(tmp_path, model):
    with pytest.raises(RuntimeError, match="engine"), merged_directory(model, tmp_path):
        raise RuntimeError("engine")
    assert left_over(tmp_path) == []


def test_one_that_ends_does_not_take_the_others(tmp_path, model):
    with merged_directory(model, tmp_path) as first:
        with merged_directory(model, tmp_path) as second:
            assert first != second
        assert (first / "model.safetensors").is_file()


def test_kept_when_asked_and_used_again(tmp_path, model, monkeypatch):
    with merged_directory(model, tmp_path, keep_merged=True) as kept:
        pass
    assert (kept / "model.safetensors").is_file()
    monkeypatch.setattr(merge.whole, "load_whole", lambda *_: pytest.fail("merged again"))
    for keep in (True, False):
        with merged_directory(model, tmp_path, keep_merged=keep) as again:
            assert again == kept
        assert kept.is_dir(), "it was kept on purpose"


def test_a_stale_one_is_not_used(tmp_path, adapter, model):
    with merged_directory(model, tmp_path, keep_merged=True) as stale:
        before = load_file(stale / "model.safetensors")
    random_lora(BASE, adapter, scale=0.3, seed=1)  # trained again, in the same place
    with merged_directory(model, tmp_path, keep_merged=True) as fresh:
        after = load_file(fresh / "model.safetensors")
    assert fresh != stale
    assert any(not torch.equal(tensor, after[name]) for name, tensor in before.items())


@pytest.mark.parametrize(
    "other",
    [
        ModelConfig("tiny-random:llama:1", device="cpu", dtype="float32"),
        ModelConfig(BASE.name, device="cpu", dtype="bfloat16"),
        ModelConfig(BASE.name, device="cpu", dtype="float32", draft_from=DraftFrom([1])),
    ],
    ids=["base", "dtype", "layers"],
)
def test_another_model_is_another_directory(tmp_path, other):
    with merged_directory(BASE, tmp_path, keep_merged=True) as one, merged_directory(other, tmp_path) as two:
        assert one.name != two.name.split("-")[0]


def test_a_model_to_which_nothing_is_done_is_its_own_directory(tmp_path):
    model, tokenizer = load_hf(BASE)
    model.save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")
    with merged_directory(ModelConfig(str(tmp_path / "m")), tmp_path) as directory:
        assert directory == tmp_path / "m"
    assert directory.is_dir()


def test_a_full_disk_leaves_nothing(tmp_path, model, monkeypatch):
    def full(self, directory):
        (Path(directory) / "tokenizer.json").write_text("{")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(PreTrainedTokenizerFast, "save_pretrained", full)
    with pytest.raises(UserError, match="No space left"), merged_directory(model, tmp_path, keep_merged=True):
        pytest.fail("the directory is not whole")
    assert left_over(tmp_path) == []


# ---- artifacts


def write_manifest(directory, base):
    parts = {"recipe": {}, "data": {}, "training": {}, "code": {}, "licence": "", "metrics": [], "smoke": {}}
    artifact.write(
        directory,
        Manifest(
            kind="lora",
            provides=["draft"],
            method="",
            base=base,
            binds={},
            created="2026-01-01T00:00:00+00:00",
            **parts,
        ),
    )


def test_export_of_an_artifact_and_one_more_adapter(tmp_path, adapter, model):
    second = tmp_path / "second"
    random_lora(BASE, second, scale=0.3, seed=1)
    write_manifest(adapter, {"name": BASE.name, "dtype": "float32", "device": "cpu"})
    export_merged([adapter, second], tmp_path / "out")
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    both = ModelConfig(BASE.name, device="cpu", dtype="float32", adapters=[str(adapter), str(second)])
    assert torch.equal(greedy(exported), greedy(load_hf(both)[0]))


def test_export_of_a_draft_made_of_its_target(tmp_path):
    target = ModelConfig(BASE.name, device="cpu", dtype="float32")
    draft = tmp_path / "draft"
    random_lora(ModelConfig(BASE.name, device="cpu", dtype="float32", draft_from=DraftFrom([1])), draft, scale=0.3)
    write_manifest(draft, {"name": "target", "draft_from": {"layers": [1]}})
    with pytest.raises(UserError, match="name a target"):
        export_merged([draft], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    export_merged([draft], tmp_path / "out", target)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").config.num_hidden_layers == 1
    with merged_directory(ModelConfig(str(draft)), tmp_path, target=target) as directory:
        assert torch.equal(
            load_file(directory / "model.safetensors")["model.layers.0.mlp.up_proj.weight"],
            load_file(tmp_path / "out" / "model.safetensors")["model.layers.0.mlp.up_proj.weight"],
        )


def test_export_overwrites_nothing(tmp_path, adapter):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("")
    with pytest.raises(UserError, match="not an empty directory"):
        export_merged([adapter], tmp_path / "out")
    assert (tmp_path / "out" / "thesis.txt").is_file()
