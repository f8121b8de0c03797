"""The acceptance head of SpecDec++ (Huang et al. 2024, arXiv 2405.19715): will the target keep this drafted token?

It reads the draft's state of the token after the final norm: a few residual blocks h + SiLU(W h + b), then two logits,
reject and accept. Blocks are modules of their own; the public code repeats one, so that all its layers are the same.
States are brought to zero mean and unit variance, as the training data had them: final norms scale single dimensions
by a hundred and more, which the first block would have to unlearn.
"""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as serialised
from torch import Tensor, nn
from torch.nn import functional

from toolkit.errors import UserError
from toolkit.files import write_atomic, write_json
from toolkit.nets import _config, _weights

CONFIG = "config.json"
WEIGHTS = "head.safetensors"
KIND = "specdecpp"
ACCEPT = 1  # class 0: reject
_STORED = torch.float16


@dataclass(frozen=True)
class HeadSettings:
    """What was found best for a head; a method may say otherwise."""

    threshold: float  # a window ends where the chance that a token in it is rejected is above this
    max: int  # longest window
    temperature: float  # of the traces


class AcceptanceHead(nn.Module):
    """Hidden states [..., H] -> logits [..., 2]."""

    mean: Tensor  # [H] float32
    scale: Tensor  # [H] float32: one over the standard deviation

    def __init__(self, width: int, blocks: int = 3) -> None:
        super().__init__()
        self.width = width
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.out = nn.Linear(width, 2)

    def forward(self, hidden: Tensor) -> Tensor:
        state = (hidden.to(self.mean.dtype) - self.mean) * self.scale
        for block in self.blocks:
            state = state + functional.silu(block(state))
        return self.out(state)

    def probability(self, hidden: Tensor) -> Tensor:
        """[..., H] -> [...] float32: f, that the token of this state is accepted."""
        return self(hidden).float().softmax(-1)[..., ACCEPT]


def save(head: AcceptanceHead, directory: Path, settings: HeadSettings) -> None:
    """Write head.safetensors (matrices in float16) and config.json."""
    tensors = {
        name: tensor.detach().to("cpu", _STORED if name.startswith(("blocks.", "out.")) else torch.float32).contiguous()
        for name, tensor in head.state_dict().items()
    }
    config = {"kind": KIND, "hidden_size": head.width, "blocks": len(head.blocks), **asdict(settings)}
    directory.mkdir(parents=True, exist_ok=True)
    write_atomic(directory / WEIGHTS, serialised(tensors, {"format": "pt"}))
    write_json(directory / CONFIG, config)


def read(directory: Path) -> tuple[AcceptanceHead, HeadSettings]:
    """The head (float32, on the CPU, in eval mode) and what it was made for. UserError names the first fault."""
    path = directory / CONFIG
    config = _config.read(path, KIND, "an acceptance head, as train/specdecpp.py writes it")
    width, blocks = _number(path, config, "hidden_size", int), _number(path, config, "blocks", int)
    settings = HeadSettings(**{key.name: _number(path, config, key.name, key.type) for key in fields(HeadSettings)})
    rules = [
        ("hidden_size", width, width >= 1, "1 or more"),
        ("blocks", blocks, 1 <= blocks <= 64, "1 to 64"),
        ("threshold", settings.threshold, 0 <= settings.threshold <= 1, "0 to 1"),
        ("max", settings.max, settings.max >= 1, "1 or more"),
        ("temperature", settings.temperature, settings.temperature >= 0, "0 or more"),
    ]
    for key, value, right, expected in rules:
        if not right:
            raise UserError(f"{path}: key '{key}' is {value}; expected {expected}. Train the head again.")
    return _filled(width, blocks, directory / WEIGHTS), settings


def _number(path: Path, config: dict[str, Any], key: str, kind: type) -> Any:
    found = config.get(key)
    if type(found) not in ({int} if kind is int else {int, float}):
        shown = repr(found)[:60] if key in config else "missing"
        raise UserError(f"{path}: key '{key}' is {shown}; expected a number ({kind.__name__}). Train the head again.")
    return kind(found)


def _filled(width: int, blocks: int, path: Path) -> AcceptanceHead:
    if not path.is_file():
        raise UserError(f"{path}: missing. A head is one file of weights beside {CONFIG}; train or copy it again.")
    return _weights.filled(lambda: AcceptanceHead(width, blocks), path, CONFIG, "Copy or train the head again.")
