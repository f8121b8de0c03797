"""An adapter with random weights, for tests of what happens to adapters: it changes what the model writes."""

import torch
from peft import LoraConfig, PeftModel, get_peft_model

from toolkit.hub import ModelConfig, load_hf


def random_lora(base: ModelConfig, directory, scale: float, seed: int = 0) -> PeftModel:
    """Saved in the directory, and returned unmerged. PEFT starts B at zero, which would change nothing."""
    model, _ = load_hf(base)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"))
        for name, weights in adapted.named_parameters():
            if ".lora_B." in name:
                torch.nn.init.normal_(weights, std=scale)
    adapted.save_pretrained(directory)
    return adapted.eval()
