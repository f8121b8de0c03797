"""Small artifacts for tests: random LoRAs of the tiny models, and manifests for them."""

import dataclasses
import warnings

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig

from toolkit import artifact, heads
from toolkit.artifact import Manifest
from toolkit.engine.vocabulary import Vocabulary
from toolkit.hub import Models
from toolkit.loading import DraftFrom, ModelConfig, load
from toolkit.nets.eagle3 import Eagle3, Eagle3Config

TINY = "tiny-random:llama"
MODULES = ("q_proj", "v_proj", "down_proj")


def config(name=TINY, **changes):
    return ModelConfig(name, device="cpu", **changes)


def lora(directory, base=None, *, seed=0, modules=MODULES):
    """Save a LoRA that changes what its base says -> the logits function of base and LoRA, unmerged, by PEFT."""
    model, _, _ = load(base or config(), None)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.manual_seed(seed)
        adapted = get_peft_model(model, LoraConfig(r=4, target_modules=list(modules), init_lora_weights=False))
    adapted.save_pretrained(directory)
    return lambda ids: adapted.eval()(ids).logits.detach()


def manifest(**changes):
    """The manifest of a LoRA of the tiny model, bound to nothing."""
    plain = Manifest(
        kind="lora",
        provides=["target"],
        method="LoRA SFT",
        base={"name": TINY},
        binds={},
        recipe={"path": "r.yaml", "command": "train r.yaml", "config": {}},
        data={"fingerprint": "0" * 64, "rows": 3},
        training={"steps": 1},
        code={"version": "0", "commit": None, "dirty": None},
        licence="Apache-2.0",
        metrics=[],
        smoke={"skipped": "a test"},
        created="2026-01-01T00:00:00Z",
    )
    return dataclasses.replace(plain, **changes)


def target_lora(directory, **changes):
    """A LoRA artifact of the tiny target -> its path as a recipe has it."""
    lora(directory, seed=changes.pop("seed", 0))
    artifact.write(directory, manifest(**changes))
    return str(directory)


def draft_lora(directory, identity, target, layers):
    """A LoRA artifact of a draft pruned from its target, bound to that target -> (its path, its logits function)."""
    base = {"name": "target", "draft_from": {"layers": layers}}
    pruned = dataclasses.replace(target, draft_from=DraftFrom(layers))
    logits = lora(directory, pruned, seed=5)
    artifact.write(directory, manifest(provides=["draft"], base=base, binds={"target": identity}))
    return str(directory), logits


def eagle_head(directory, target=None, *, bound=True, width=64, aux=(0, 1, 1)):
    """A random EAGLE-3 head of the tiny target -> (its path, the head, its vocabulary): every second token."""
    target = target or config()
    layer = LlamaConfig(
        vocab_size=259,
        hidden_size=width,
        intermediate_size=96,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
    )
    vocabulary = Vocabulary(torch.arange(0, 259, 2), 259)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        head = Eagle3(Eagle3Config(layer, len(vocabulary), aux))
    heads.save(head, vocabulary, directory, {"name_or_path": TINY, "architectures": ["LlamaForCausalLM"]}, 4)
    if bound:
        identity = Models(target).identity()
        made = manifest(
            kind="eagle3", provides=["proposer"], base={}, binds={"target": identity}, shares=["embed_tokens"]
        )
        artifact.write(directory, made)
    return str(directory), head, vocabulary
