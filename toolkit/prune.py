"""`draft_from: {layers: [...]}`: a draft made of some of a model's own layers, the start of distillation.

The draft is the same module tree with fewer layers; its parameters are the model's own tensors, not copies. It is a
genuine Hugging Face model (its config counts the layers that are left), so it can be saved and trained.
"""

import copy
from itertools import chain

from torch import nn
from transformers import PreTrainedModel

from toolkit.errors import UserError


def pruned(model: PreTrainedModel, layers: list[int], name: str) -> PreTrainedModel:
    """The model with only these layers, in this order. `name` is for the error."""
    count = model.config.get_text_config().num_hidden_layers
    wrong = [layer for layer in layers if not 0 <= layer < count]
    if not layers or wrong or len(set(layers)) != len(layers):
        raise UserError(
            f"draft_from.layers = {layers}: expected one or more different layers of '{name}', "
            f"which has layers 0 to {count - 1}."
        )
    # Tensors in the memo count as copied already: the copy refers to the originals
    shared = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    draft = copy.deepcopy(model, shared)
    _keep(draft.get_decoder(), layers, count, name)
    _shrink_config(draft, layers, count)
    return draft


def _keep(decoder: nn.Module, layers: list[int], count: int, name: str) -> None:
    stacks = [key for key, m in decoder.named_children() if isinstance(m, nn.ModuleList) and len(m) == count]
    if len(stacks) != 1:
        raise UserError(f"draft_from: cannot tell which modules of '{name}' are its {count} decoder layers.")
    stack = decoder.get_submodule(stacks[0])
    setattr(decoder, stacks[0], nn.ModuleList(stack[layer] for layer in layers))
    for index, layer in enumerate(decoder.get_submodule(stacks[0])):
        for module in layer.modules():
            if "layer_idx" in vars(module):  # its place in the KV cache
                module.layer_idx = index


def _shrink_config(draft: PreTrainedModel, layers: list[int], count: int) -> None:
    config = draft.config.get_text_config()
    for key, value in config.to_dict().items():
        if "layer" in key and isinstance(value, list) and len(value) == count:  # layer_types and its like
            setattr(config, key, [value[layer] for layer in layers])
    config.num_hidden_layers = len(layers)
