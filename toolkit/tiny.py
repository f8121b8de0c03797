"""`tiny-random:<family>[:seed]`: a small random model with a byte tokenizer, so that every recipe runs in seconds.

The weights are drawn wide (0.2, not the usual 0.02): a narrow draw gives a model whose next token hardly depends
on the context, and such a model hides every cache bug. The seed fixes the weights whatever the program drew before.
"""

from typing import TYPE_CHECKING, Any

from toolkit.errors import UserError

if TYPE_CHECKING:  # at run time transformers is imported on use: listing the families must stay fast
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

PREFIX = "tiny-random:"
FAMILIES = {
    "llama": "rotary positions, grouped heads",
    "qwen2": "Llama with biases on q, k and v",
    "qwen3": "Llama with normalised q and k",
    "gpt2": "learned positions, fused q, k and v",
    "mistral": "Llama with a sliding window in all layers",
    "gemma2": "a sliding window in every second layer, soft-capped logits",
}
_SPECIALS = ("<eos>", "<pad>", "<bos>")  # ids 256, 257, 258
_LONGEST = 8192
_CHAT = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def build(name: str) -> "tuple[PreTrainedModel, PreTrainedTokenizerFast]":
    """The model (float32, CPU, eval mode) and tokenizer that `tiny-random:<family>[:seed]` names."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    family, seed = _parse(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **_shape(family)), dtype=torch.float32)
    return model.eval(), byte_tokenizer()


def byte_tokenizer() -> "PreTrainedTokenizerFast":
    """One token a byte, then the specials; any text goes through it unchanged."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate([*alphabet, *_SPECIALS])}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    eos, pad, bos = _SPECIALS
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=eos,
        pad_token=pad,
        bos_token=bos,
        chat_template=_CHAT,
        model_max_length=_LONGEST,
        clean_up_tokenization_spaces=False,
    )


def _parse(name: str) -> tuple[str, int]:
    family, _, seed = name.removeprefix(PREFIX).partition(":")
    if family not in FAMILIES or not (seed or "0").isdigit():
        raise UserError(
            f"model '{name}': expected {PREFIX}<family> or {PREFIX}<family>:<seed>, "
            f"with a whole-number seed and a family among {', '.join(FAMILIES)}."
        )
    return family, int(seed or 0)


def _shape(family: str) -> dict[str, Any]:
    """Two layers, hidden size 64, four heads of which two hold keys."""
    eos, pad, bos = range(256, 256 + len(_SPECIALS))
    common = {
        "vocab_size": 256 + len(_SPECIALS),
        "eos_token_id": eos,
        "pad_token_id": pad,
        "bos_token_id": bos,
        "initializer_range": 0.2,
    }
    if family == "gpt2":
        return common | {"n_layer": 2, "n_embd": 64, "n_head": 4, "n_positions": _LONGEST}
    rotary = {
        "num_hidden_layers": 2,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": _LONGEST,
    }
    window = {"sliding_window": 32} if family in ("mistral", "gemma2") else {}
    # tied to embeddings as large as Gemma's, a random head just repeats the last token
    gemma = {"query_pre_attn_scalar": 16, "tie_word_embeddings": False} if family == "gemma2" else {}
    return common | rotary | window | gemma
