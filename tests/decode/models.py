"""Tiny random models whose next-token law depends strongly on the context, so that a decoding bug moves it.

Five tokens, the last of them EOS. Seeds and scales were searched for offline and are fixed; test_models asserts what
they were chosen for, so a new transformers that initialises differently fails loudly, not silently.
The reference is a plain model, never touched by a Runner (which changes a model's attention and weights).
"""

import functools
from dataclasses import dataclass, replace
from typing import Literal

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from toolkit import trim
from toolkit.engine.runner import Runner
from toolkit.engine.vocabulary import Vocabulary

VOCAB = 5
EOS = 4
ALIVE = 4  # tokens 0..3 go on; 4 ends

Family = Literal["llama", "qwen3", "gpt2"]
Kind = Literal["far", "near", "trimmed"]


@dataclass(frozen=True)
class Recipe:
    """A random model: its shape, its seed, and how its parts are scaled after the draw at 0.3."""

    family: str
    seed: int
    layers: int = 1
    hidden: int = 16
    head: float = 1.5  # sharpness of the law
    embedding: float = 0.25  # small: what attention brings outweighs the token's own embedding
    attention: float = 1.0  # of the output projection
    query_key: float = 1.0  # large: attention picks single tokens
    positions: float = 1.0  # of learned position embeddings
    noise: float = 0.0  # relative, added to every weight: a near relative of the model of the same seed
    noise_seed: int = 0
    tokens: tuple[int, ...] = ()  # all that it can say, where it has a vocabulary of its own
    sliding: int | None = None  # tokens that a Mistral's layers look back on


TARGETS = {
    "llama": Recipe("llama", seed=47, attention=3.0),
    "qwen3": Recipe("qwen3", seed=137),
    "gpt2": Recipe("gpt2", seed=69732, layers=2, head=1.0, attention=2.0, query_key=6.0, positions=0.25),
}


SLIDING = Recipe("mistral", seed=3, layers=2, sliding=4)  # texts here are longer


def build(recipe: Recipe, **options: object) -> PreTrainedModel:
    """A fresh float32 model; the same recipe always gives the same weights. options: further config entries."""
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(recipe.family, **_shape(recipe), **options))
        if recipe.noise:
            torch.manual_seed(recipe.noise_seed)
            for weight in model.parameters():
                weight.data += recipe.noise * weight.data.std(correction=0) * torch.randn_like(weight)
    _scale(model, recipe)
    return model.eval()


def _shape(recipe: Recipe) -> dict[str, object]:
    common = {"vocab_size": VOCAB, "eos_token_id": EOS, "bos_token_id": None, "pad_token_id": None}
    common |= {"initializer_range": 0.3, "tie_word_embeddings": False}
    if recipe.family == "gpt2":
        return (
            common
            | {"n_embd": recipe.hidden, "n_layer": recipe.layers, "n_head": 2, "n_positions": 64}
            | {
                "activation_function": "gelu_pytorch_tanh"  # GPT-2's own, in one operation instead of eight
            }
        )
    if recipe.sliding:
        common["sliding_window"] = recipe.sliding
    return common | {
        "hidden_size": recipe.hidden,
        "intermediate_size": 2 * recipe.hidden,
        "num_hidden_layers": recipe.layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "max_position_embeddings": 64,
    }


def _scale(model: PreTrainedModel, recipe: Recipe) -> None:
    """Centre the head on the live tokens and silence the EOS row: its logit is 0, so EOS is never far off."""
    head = model.lm_head.weight.data
    head[:EOS] -= head[:EOS].mean(0)
    head[EOS] = 0.0
    head *= recipe.head
    model.get_input_embeddings().weight.data *= recipe.embedding
    if recipe.family == "gpt2":
        model.transformer.wpe.weight.data *= recipe.positions
        for block in model.transformer.h:
            block.attn.c_proj.weight.data *= recipe.attention
            block.attn.c_attn.weight.data[:, : 2 * recipe.hidden] *= recipe.query_key
    else:
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.data *= recipe.attention


@dataclass(frozen=True)
class Model:
    """One model twice: `plain` is the reference, `runner` the toolkit's wrapping of an equal copy."""

    plain: PreTrainedModel
    runner: Runner


@functools.cache
def model(recipe: Recipe) -> Model:
    """The runner's copy of a model with its own vocabulary has a trimmed head; the plain one has it whole."""
    copy, vocabulary = build(recipe), None
    if recipe.tokens:
        vocabulary = Vocabulary(torch.tensor(recipe.tokens), VOCAB)
        trim.trim(copy, vocabulary)
    return Model(build(recipe), Runner(copy, name=f"{recipe.family}-{recipe.seed}", vocabulary=vocabulary))


FAR = {"llama": 0, "qwen3": 1, "gpt2": 3}  # seeds
NEAR = {"llama": 0.1, "qwen3": 0.1, "gpt2": 0.05}  # noise
TOKENS = (0, 2, 3, 4)  # a vocabulary without token 1


def target_recipe(family: Family) -> Recipe:
    return TARGETS[family]


def draft_recipe(family: Family, kind: Kind) -> Recipe:
    """far: another seed, half as wide, one layer; trimmed: without token 1 as well. near: the target with noise."""
    if kind in ("far", "trimmed"):
        tokens = TOKENS if kind == "trimmed" else ()
        return replace(TARGETS[family], seed=FAR[family], hidden=8, layers=1, tokens=tokens)
    return replace(TARGETS[family], noise=NEAR[family], noise_seed=1)
