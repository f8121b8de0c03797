"""Packed and fused linear layers compute what the model's own layers compute, for every family that has them."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from toolkit.engine import packed

WIDE = {"hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 1, "num_attention_heads": 8, "head_dim": 64}
SHAPES = {
    "llama": WIDE | {"num_key_value_heads": 2, "tie_word_embeddings": True},  # k, v alone are too small to pack
    "qwen2": WIDE | {"num_key_value_heads": 8},  # biases on q, k, v
    "gpt2": {"n_embd": 512, "n_layer": 1, "n_head": 8, "bos_token_id": 0, "eos_token_id": 0},  # Conv1D
}


def _model(family: str) -> PreTrainedModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, vocab_size=600, **SHAPES[family])
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):  # they start at 0, where a lost bias would not show
            torch.nn.init.normal_(parameter)
    return model


@pytest.mark.parametrize("tokens", [1, 2, 5, 16, 70])
@pytest.mark.parametrize("family", SHAPES)
def test_same_logits(family: str, tokens: int) -> None:
    model = _model(family)
    ids = torch.randint(600, (2, tokens))
    with torch.inference_mode():
        plain = model(ids).logits
        assert packed.pack(model) >= 4
        torch.testing.assert_close(model(ids).logits, plain, atol=1e-4, rtol=1e-4)


def test_siblings_are_one_product() -> None:
    model = _model("llama")
    packed.pack(model)
    attention = model.model.layers[0].self_attn
    assert isinstance(attention.q_proj, packed.Leader)
    assert isinstance(attention.k_proj, packed.Follower)


def test_no_activation_outlives_its_forward() -> None:
    model = _model("llama")
    packed.pack(model)
    with torch.inference_mode():
        model(torch.randint(600, (2, 7)))
    leaders = [module for module in model.modules() if isinstance(module, packed.Leader)]
    assert leaders and all(leader.source is None and leader.parts == () for leader in leaders)


def test_a_sibling_with_another_input_is_refused() -> None:
    """Fusing is right only where the projections read one input; anything else must not be wrong in silence."""
    model = _model("llama")
    packed.pack(model)
    attention = model.model.layers[0].self_attn
    attention.q_proj(torch.randn(1, 1, 512))
    with pytest.raises(RuntimeError, match="different inputs"):
        attention.k_proj(torch.randn(1, 1, 512))


def test_small_layers_stay() -> None:
    layer = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(512, 512))
    assert packed.pack(layer) == 1
    assert type(layer[0]) is torch.nn.Linear
