"""An EAGLE-3 head for other engines: `vllm serve OUT` finds the head's target by the name in its config.json.

A head that was trained here names its target as it was called here. What is written names the hub's repository, or the
directory that the target is in elsewhere: one with adapters has to be merged first, as no engine loads it otherwise.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from safetensors.torch import save as serialised

from toolkit import artifact, binding, heads
from toolkit.artifact import Manifest
from toolkit.errors import UserError
from toolkit.files import write_atomic, write_json
from toolkit.loading import ModelConfig, load

EMBEDDINGS = "embed_tokens.weight"


def write(directory: Path, manifest: Manifest, out: Path, verifier: str | None, target: ModelConfig | None) -> None:
    """The head in `out`, whole or not at all. `verifier`: what its target is called there.

    `target`: where its embeddings are taken from, to be written too; None leaves them out, as engines share them.
    """
    named = verifier or _name(directory, manifest)
    heads.read(directory)  # refuses what is not whole
    config = json.loads((directory / heads.CONFIG).read_text())
    config["speculators_config"]["verifier"]["name_or_path"] = named
    beside = artifact.partial(out)
    try:
        with artifact.writing(out):
            write_json(beside / heads.CONFIG, config)
            if target is None:
                shutil.copy2(directory / heads.WEIGHTS, beside / heads.WEIGHTS)
            else:
                tensors = load_file(directory / heads.WEIGHTS) | {EMBEDDINGS: _embeddings(directory, manifest, target)}
                write_atomic(beside / heads.WEIGHTS, serialised(tensors, {"format": "pt"}))
        heads.read(beside)
        artifact.publish(beside, out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def speculative_config(directory: Path, path: str) -> dict[str, Any]:
    """What vLLM is told of the head in `directory`, to be found under `path`, where it is given a target itself."""
    config = json.loads((directory / heads.CONFIG).read_text())
    tokens = config["speculators_config"]["proposal_methods"][0]["speculative_tokens"]
    return {"method": "eagle3", "model": path, "num_speculative_tokens": tokens, "draft_tensor_parallel_size": 1}


def _name(directory: Path, manifest: Manifest) -> str:
    bound = manifest.binds["target"]
    if bound["adapters"]:
        raise UserError(
            f"{directory}: its target is {bound['name']} with the adapters {binding.shortened(bound['adapters'])} "
            "(SHA-256), which no engine finds under one name. Export that adapter with --merge, and give the directory "
            "as --verifier."
        )
    return bound["name"]


def _embeddings(directory: Path, manifest: Manifest, target: ModelConfig) -> torch.Tensor:
    model, tokenizer, origin = load(target, None)
    binding.check(directory, manifest.binds["target"], origin.identity(tokenizer))
    return model.get_input_embeddings().weight.detach().to("cpu", torch.bfloat16).contiguous()
