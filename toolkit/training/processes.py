"""The processes of `accelerate launch`, known before there is a trainer, and where each reads the model to train.

Once they have `joined`, `cuda` means a process's own GPU. Where FSDP or ZeRO-3 share a model out, no process may have
all of it on its GPU first: it is read into main memory, and goes from there in parts.
"""

import dataclasses
import os
from datetime import timedelta

import torch
from accelerate import PartialState

from toolkit.hub import ModelConfig
from toolkit.loading import spelled_out

_PATIENCE = timedelta(hours=12)  # for one that fetches a model, or tries what was trained; NCCL gives up after minutes


def joined() -> PartialState:
    """This process among the others. accelerate looks for others on a CPU only when told that there is no GPU."""
    no_gpu = _launched_with("USE_CPU") or not torch.cuda.is_available()
    return PartialState(cpu=no_gpu, timeout=_PATIENCE)


def on_gpu() -> bool:
    """Whether this process computes on a GPU; `use_cpu` is heeded where there is one."""
    return joined().device.type == "cuda"


def fully_sharded() -> bool:
    """Whether the parameters will be FSDP's."""
    return _launched_with("USE_FSDP")


def placed(model: ModelConfig, target: ModelConfig | None) -> ModelConfig:
    """The model to train, where this process is to read it. `target`: what the name `target` means in it."""
    model = model if target is None else spelled_out(model, target)
    shared_out = fully_sharded() or _launched_with("USE_DEEPSPEED")
    if model.device != "auto" or (on_gpu() and not shared_out):
        return model
    dtype = "bfloat16" if on_gpu() and model.dtype == "auto" else model.dtype  # in main memory `auto` were float32
    return dataclasses.replace(model, device="cpu", dtype=dtype)


def _launched_with(flag: str) -> bool:
    return os.environ.get(f"ACCELERATE_{flag}", "false").lower() == "true"
