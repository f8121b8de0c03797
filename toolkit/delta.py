"""A draft made of its target that stores only the tensors that training changed: kind `delta`.

config.json is the whole draft's, model.safetensors holds some of its tensors, and the manifest says where the others
come from: `base` names the layers of the target that the draft is made of, `shares` the modules that are the base's
own. A tensor that is in neither is missing: the draft is then refused, not filled with whatever was there before.
"""

import json
from collections.abc import Collection
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialised
from transformers import PreTrainedModel

from toolkit import artifact
from toolkit.artifact import MANIFEST, Manifest
from toolkit.errors import UserError
from toolkit.files import write_atomic

KIND = "delta"
CONFIG = "config.json"
WEIGHTS = "model.safetensors"


def is_delta(directory: Path) -> bool:
    """An artifact of this kind."""
    return (directory / MANIFEST).is_file() and artifact.read(directory).kind == KIND


def save(model: PreTrainedModel, shares: Collection[str], directory: Path, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write what the draft does not share with its base. shares: names of modules, as the manifest will list them."""
    own = {name: tensor for name, tensor in model.named_parameters() if not _shared(name, shares)}
    content = serialised({name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in own.items()})
    with artifact.writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        model.config.save_pretrained(directory)
        write_atomic(directory / WEIGHTS, content)


def fill(model: PreTrainedModel, directory: Path, manifest: Manifest) -> None:
    """Put the stored tensors into the base, in place and in its dtype; UserError where some are missing."""
    _check_layers(model, directory)
    path = directory / WEIGHTS
    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error}). Copy or train the draft again.") from None
    parameters = dict(model.named_parameters())  # a tied head is its embeddings, once
    for module in manifest.shares:
        if not any(_shared(name, [module]) for name in parameters):
            raise UserError(f"{directory / MANIFEST}: key 'shares': the draft has no module '{module}'. {_MEND}")
    for name, parameter in parameters.items():
        if name not in stored and not _shared(name, manifest.shares):
            raise UserError(
                f"{path}: no tensor '{name}', and key 'shares' of {MANIFEST} does not name its module as the target's. "
                f"{_MEND}"
            )
        if name in stored and stored[name].shape != parameter.shape:
            raise UserError(
                f"{path}: tensor '{name}' has shape {list(stored[name].shape)}, and the draft made of its target has "
                f"{list(parameter.shape)} there. {_MEND}"
            )
    if unknown := sorted(stored.keys() - parameters.keys()):
        raise UserError(f"{path}: the draft made of its target has no tensor '{unknown[0]}'. {_MEND}")
    with torch.no_grad():
        for name, tensor in stored.items():
            parameters[name].copy_(tensor)


_MEND = "Use it with the target that it was trained for, copy it again, or train it again."


def _check_layers(model: PreTrainedModel, directory: Path) -> None:
    path = directory / CONFIG
    try:
        expected = json.loads(path.read_text(encoding="utf-8"))["num_hidden_layers"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: key 'num_hidden_layers' is not readable ({error!r}). {_MEND}") from None
    found = model.config.get_text_config().num_hidden_layers
    if found != expected:
        raise UserError(
            f"{path}: key 'num_hidden_layers' is {expected}, and key 'base.draft_from' of {MANIFEST} leaves {found} "
            f"layers of the target. {_MEND}"
        )


def _shared(name: str, modules: Collection[str]) -> bool:
    return any(name.startswith(f"{module}.") for module in modules)
