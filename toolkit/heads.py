"""An EAGLE-3 head as a directory in the speculators format: what `vllm serve DIRECTORY` loads, and what it reads back.

config.json and one model.safetensors, in bfloat16. The target's embeddings are not stored: whoever runs the head has
the target. A config that asks for what the head does not compute is refused, not ignored.
"""

import json
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import save as serialised
from transformers import LlamaConfig
from transformers.activations import ACT2FN

from toolkit import artifact
from toolkit.engine.vocabulary import Vocabulary
from toolkit.errors import NotThere, UserError
from toolkit.files import write_atomic, write_json
from toolkit.nets import _weights
from toolkit.nets.eagle3 import Eagle3, Eagle3Config
from toolkit.sources import say

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
_VERSION = "0.7.0"  # of the speculators format
_AGAIN = "Copy or train the head again."
_LAYER = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "hidden_act", "rms_norm_eps", "max_position_embeddings", "attention_bias",
    "mlp_bias", "tie_word_embeddings", "rope_parameters",
)  # fmt: skip
_EMBEDDINGS = "embed_tokens.weight"
_OTHER_NAME, _NAME = "midlayer.", "layers.0."  # what EAGLE's own files call the layer, and speculators'
# What other heads have and this one does not
_OFF = ("norm_before_fc", "fc_norm", "norm_output")
_OFF_IN_LAYER = ("attention_bias", "mlp_bias")


def save(
    head: Eagle3, vocabulary: Vocabulary, directory: Path, verifier: dict[str, Any], speculative_tokens: int
) -> None:
    """Write config.json and model.safetensors. verifier: the target's `name_or_path` and `architectures`."""
    tensors = {name: tensor.detach().to("cpu", torch.bfloat16) for name, tensor in head.state_dict().items()}
    mapped = Vocabulary(vocabulary.ids.cpu(), head.config.layer.vocab_size)  # t2d is as long as the target's embeddings
    tensors |= {"d2t": mapped.offsets(), "t2d": mapped.mask()}
    content = serialised({name: tensor.contiguous() for name, tensor in tensors.items()}, {"format": "pt"})
    with artifact.writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        write_atomic(directory / WEIGHTS, content)
        write_json(directory / CONFIG, _config(head.config, verifier, speculative_tokens))


def read(directory: Path) -> tuple[Eagle3, Vocabulary]:
    """The head (float32, on the CPU, in eval mode) and its vocabulary. UserError names the first fault."""
    if not directory.is_dir():
        raise NotThere(f"{directory}: not there. Expected the directory of an EAGLE-3 head in the speculators format.")
    config = _parsed(directory / CONFIG)
    path = directory / WEIGHTS
    if not path.is_file():
        raise NotThere(f"{path}: missing. A head is one file of weights beside {CONFIG}; train or copy it again.")
    read = _weights.tensors(path, _AGAIN).items()
    tensors = {_NAME + k.removeprefix(_OTHER_NAME) if k.startswith(_OTHER_NAME) else k: t for k, t in read}
    if tensors.pop(_EMBEDDINGS, None) is not None:
        say(f"{path}: {_EMBEDDINGS} is not used; a head here reads its target's embeddings")
    for name in ("d2t", "t2d"):
        if name not in tensors:
            raise UserError(f"{path}: tensor '{name}' is missing; expected the map of the head's vocabulary.")
    vocabulary = Vocabulary.from_map(tensors.pop("d2t"), tensors.pop("t2d"), path)
    _check_size(path, "d2t", len(vocabulary), "draft_vocab_size", config.draft_vocab_size)
    _check_size(path, "t2d", vocabulary.size, "transformer_layer_config.vocab_size", config.layer.vocab_size)
    return _weights.filled_with(tensors, lambda: Eagle3(config), path, CONFIG, _AGAIN), vocabulary


def _config(config: Eagle3Config, verifier: dict[str, Any], speculative_tokens: int) -> dict[str, Any]:
    layer = config.layer.to_dict() | {"num_hidden_layers": 1, "tie_word_embeddings": False}
    return {
        "architectures": ["Eagle3DraftModel"],
        "speculators_model_type": "eagle3",
        "speculators_version": _VERSION,
        "draft_vocab_size": config.draft_vocab_size,
        "norm_before_residual": config.norm_before_residual,  # left out, it is true to vLLM and false to speculators
        **dict.fromkeys(_OFF, False),
        "eagle_aux_hidden_state_layer_ids": list(config.aux_layers),
        "tie_word_embeddings": False,
        "dtype": "bfloat16",
        "transformer_layer_config": {"model_type": "llama", **{key: layer[key] for key in _LAYER}},
        "speculators_config": {
            "algorithm": "eagle3",
            "default_proposal_method": "greedy",
            "proposal_methods": [{"proposal_type": "greedy", "speculative_tokens": speculative_tokens}],
            "verifier": {"name_or_path": verifier["name_or_path"], "architectures": verifier["architectures"]},
        },
    }


def _parsed(path: Path) -> Eagle3Config:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: not readable as JSON ({error}). Expected the directory of an EAGLE-3 head in the speculators "
            "format."
        ) from None
    if not isinstance(config, dict) or config.get("speculators_model_type") != "eagle3":
        raise UserError(
            f"{path}: key 'speculators_model_type' is not 'eagle3'; expected an EAGLE-3 head in the speculators format."
        )
    layer = _value(path, config, "transformer_layer_config", dict)
    if layer.get("model_type") != "llama" or layer.get("num_hidden_layers") != 1:
        raise UserError(
            f"{path}: key 'transformer_layer_config' has model_type {layer.get('model_type')!r} and num_hidden_layers "
            f"{layer.get('num_hidden_layers')!r}; expected 'llama' and 1: the head is one such layer."
        )
    for where, node, keys in ("", config, _OFF), ("transformer_layer_config.", layer, _OFF_IN_LAYER):
        for key in keys:
            if node.get(key, False) is not False:
                raise UserError(f"{path}: key '{where}{key}' is {node[key]!r}; only false can be run here.")
    if (act := layer.get("hidden_act", "silu")) not in ACT2FN:
        raise UserError(f"{path}: key 'transformer_layer_config.hidden_act' is {act!r}; expected silu or its like.")
    for key in ("vocab_size", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads"):
        _value(path, layer, key, int, "transformer_layer_config.")
    aux = _value(path, config, "eagle_aux_hidden_state_layer_ids", list)
    if len(aux) != 3 or not all(type(k) is int and k >= 0 for k in aux):
        raise UserError(
            f"{path}: key 'eagle_aux_hidden_state_layer_ids' is {aux}; expected three layers of the target, as in "
            "[2, 16, 29]: the head reads the states entering them."
        )
    try:
        llama = LlamaConfig(**{key: value for key, value in layer.items() if key != "model_type"})
    except (StrictDataclassError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: key 'transformer_layer_config' describes no Llama layer: {error}") from None
    return Eagle3Config(
        layer=llama,
        draft_vocab_size=_value(path, config, "draft_vocab_size", int),
        aux_layers=tuple(aux),
        norm_before_residual=_value(path, config, "norm_before_residual", bool),
    )


def _value(path: Path, node: dict[str, Any], key: str, kind: type, where: str = "") -> Any:
    if type(node.get(key)) is not kind:
        found = repr(node[key])[:60] if key in node else "missing"
        raise UserError(f"{path}: key '{where}{key}' is {found}; expected a {kind.__name__}.")
    return node[key]


def _check_size(path: Path, tensor: str, length: int, key: str, expected: int) -> None:
    if length != expected:
        raise UserError(
            f"{path}: '{tensor}' has {length} entries, and key '{key}' of {CONFIG} is {expected}; expected as many. "
            "The two files are not of one head: copy or train it again."
        )
