"""Filling a network from the safetensors file that stands beside its config.json."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from toolkit.errors import UserError

Net = TypeVar("Net", bound=nn.Module)


def filled(make: Callable[[], Net], path: Path, config: str, again: str) -> Net:
    """The network in eval mode. UserError where the file is unreadable, or a tensor of another shape or damaged.

    config: the name of the file that its sizes are from. again: what helps, as a sentence.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error}). {again}") from None
    with torch.random.fork_rng(devices=[]):  # the module draws weights that are overwritten here
        net = make()
    expected = {name: list(tensor.shape) for name, tensor in net.state_dict().items()}
    found = {name: list(tensor.shape) for name, tensor in tensors.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise UserError(
                f"{path}: tensor '{name}' has shape {found.get(name, 'none')}, and {config} asks for "
                f"{expected.get(name, 'none')}. {again}"
            )
    if damaged := sorted(name for name, tensor in tensors.items() if not tensor.isfinite().all()):
        raise UserError(f"{path}: tensor '{damaged[0]}' has values that are no numbers. {again}")
    net.load_state_dict(tensors)
    return net.eval()
