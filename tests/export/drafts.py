"""Trained drafts in all but the training: kinds delta and lora with a vocabulary of their own, and an EAGLE-3 head."""

import dataclasses

import torch
from transformers import LlamaConfig

from tests.artifacts import lora, manifest
from toolkit import artifact, delta, heads, trim
from toolkit.engine.vocabulary import Vocabulary
from toolkit.loading import DraftFrom, load
from toolkit.nets.eagle3 import Eagle3, Eagle3Config


def vocabulary(width):
    """Every third token, so that offsets are not constant."""
    return Vocabulary(torch.arange(0, width, 3), width)


def delta_draft(directory, identity, target, layers):
    """A draft made of these layers of its target, each tensor moved but for the embeddings; its head trimmed."""
    model, _, _ = load(dataclasses.replace(target, draft_from=DraftFrom(layers)), None)
    tokens = vocabulary(model.config.vocab_size)
    trim.trim(model, tokens)
    shares = ["model.embed_tokens"]
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        for name, parameter in model.named_parameters():
            if not name.startswith(shares[0]):
                parameter.add_(0.1 * torch.randn_like(parameter))
    delta.save(model, shares, directory, torch.float32)
    return _stored(directory, "delta", identity, layers, tokens, shares)


def trimmed_lora(directory, identity, target, layers):
    """The same as a LoRA, which leaves the head's rows as they are."""
    pruned = dataclasses.replace(target, draft_from=DraftFrom(layers))
    lora(directory, pruned, seed=5, modules=("c_attn", "c_fc") if "gpt2" in target.name else ("q_proj", "down_proj"))
    return _stored(directory, "lora", identity, layers, vocabulary(load(target, None)[0].config.vocab_size), [])


def _stored(directory, kind, identity, layers, tokens, shares):
    trim.save(directory, tokens, tokens.size)
    base = {"name": "target", "draft_from": {"layers": layers}}
    fields = {"kind": kind, "provides": ["draft"], "base": base, "binds": {"target": identity}, "shares": shares}
    artifact.write(directory, manifest(**fields))
    return str(directory)


def head(directory, models, aux, tokens):
    """A random head of the target, with this vocabulary and its target's positions and norms."""
    target = models.target.model.config
    layer = LlamaConfig(
        vocab_size=target.vocab_size,
        hidden_size=target.hidden_size,
        intermediate_size=2 * target.hidden_size,
        num_hidden_layers=1,
        num_attention_heads=target.num_attention_heads,
        num_key_value_heads=target.num_key_value_heads,
        head_dim=target.head_dim,
        rms_norm_eps=target.rms_norm_eps,
        rope_parameters=target.rope_parameters,
        max_position_embeddings=target.max_position_embeddings,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        made = Eagle3(Eagle3Config(layer, len(tokens), aux))
    verifier = {"name_or_path": models.config.name, "architectures": ["LlamaForCausalLM"]}
    heads.save(made, tokens, directory, verifier, speculative_tokens=3)
    fields = {"kind": "eagle3", "provides": ["proposer"], "base": {}, "binds": {"target": models.identity()}}
    artifact.write(directory, manifest(**fields, shares=["embed_tokens"]))
    return str(directory)
