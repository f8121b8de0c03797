"""Filling a network from the safetensors file that stands beside its config.json.

config: the name of the file that the network's sizes are from. again: what helps, as a sentence.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from toolkit.errors import UserError

Net = TypeVar("Net", bound=nn.Module)


def filled(make: Callable[[], Net], path: Path, config: str, again: str) -> Net:
    """The network in eval mode. UserError where the file is unreadable, or a tensor of another shape or damaged."""
    return filled_with(tensors(path, again), make, path, config, again)


def tensors(path: Path, again: str) -> dict[str, Tensor]:
    """All that is in the file."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error}). {again}") from None


def filled_with(given: dict[str, Tensor], make: Callable[[], Net], path: Path, config: str, again: str) -> Net:
    """As `filled`, with tensors that were read from the file."""
    with torch.random.fork_rng(devices=[]):  # the module draws weights that are overwritten here
        net = make()
    expected = {name: list(tensor.shape) for name, tensor in net.state_dict().items()}
    found = {name: list(tensor.shape) for name, tensor in given.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise UserError(
                f"{path}: tensor '{name}' has shape {found.get(name, 'none')}, and {config} asks for "
                f"{expected.get(name, 'none')}. {again}"
            )
    if damaged := sorted(name for name, tensor in given.items() if not tensor.isfinite().all()):
        raise UserError(f"{path}: tensor '{damaged[0]}' has values that are no numbers. {again}")
    net.load_state_dict(given)
    return net.eval()
