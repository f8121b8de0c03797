"""The LoRAs of the large recipes on models of the real sizes, as shapes without memory (the meta device)."""

import pytest
import torch
from peft import get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from tests.recipes.shipped import LARGE, LORA, ROOT
from toolkit.training import lora, recipe

# family, hidden, layers, heads, key heads, size of a head, intermediate, vocabulary, tied; and the published parameters
SIZES = {
    "Qwen/Qwen3-14B": (("qwen3", 5120, 40, 40, 8, 128, 17408, 151936, False), 14_768_307_200),
    "Qwen/Qwen3-0.6B": (("qwen3", 1024, 28, 16, 8, 128, 3072, 151936, True), 596_049_920),
    "Qwen/Qwen2.5-7B-Instruct": (("qwen2", 3584, 28, 28, 4, 128, 18944, 152064, False), 7_615_616_512),
    "Qwen/Qwen2.5-14B-Instruct": (("qwen2", 5120, 48, 40, 8, 128, 13824, 152064, False), 14_770_033_664),
    "Qwen/Qwen2.5-0.5B-Instruct": (("qwen2", 896, 24, 14, 2, 64, 4864, 151936, True), 494_032_768),
    "meta-llama/Llama-3.1-8B-Instruct": (("llama", 4096, 32, 32, 8, 128, 14336, 128256, False), 8_030_261_248),
    "meta-llama/Llama-3.2-1B-Instruct": (("llama", 2048, 16, 32, 8, 64, 8192, 128256, True), 1_235_814_400),
}
PATHS = [path for path in LORA if path.parts[2] in LARGE]


def model_of(name):
    family, hidden, layers, heads, key_heads, head, intermediate, vocabulary, tied = SIZES[name][0]
    sizes = {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "intermediate_size": intermediate,
        "vocab_size": vocabulary,
        "tie_word_embeddings": tied,
    }
    if family != "qwen2":  # whose heads always share out the hidden size
        sizes["head_dim"] = head
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **sizes))


def expected(name, rank):
    """Trainable parameters of a LoRA on all seven products: rank times their inputs and outputs."""
    _, hidden, layers, heads, key_heads, head, intermediate, _, _ = SIZES[name][0]
    attention = 2 * (hidden + heads * head) + 2 * (hidden + key_heads * head)  # q and o, k and v
    return layers * rank * (attention + 3 * (hidden + intermediate))


@pytest.mark.parametrize("path", PATHS, ids=str)
def test_the_adapter_fits_the_model(path):
    read = recipe.load(ROOT / path, [])
    with torch.device("meta"):
        model = model_of(read.model.name)
        assert sum(p.numel() for p in model.parameters()) == SIZES[read.model.name][1]
        adapted = get_peft_model(model, lora.adapter_config(read))
    trainable = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
    assert all(p.is_meta and ".lora_" in name for name, p in trainable.items())
    assert sum(p.numel() for p in trainable.values()) == expected(read.model.name, read.lora.rank)
    assert {name.split(".lora_")[0].rpartition(".")[2] for name in trainable} == set(read.lora.targets)
