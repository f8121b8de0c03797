"""How to use an artifact: what a recipe of ours says, and what PEFT, transformers and vLLM are told.

A draft made of its target's layers fits no other library as an adapter: there it is used as the full model that
`draftsmith export --merge` writes.
"""

import json
from typing import Any

from toolkit.artifact import Manifest
from toolkit.export.metadata import base_name, base_repository

TOKENS = 5  # a round in vLLM, to begin with; the best number is a matter of hardware and acceptance


def how_to(manifest: Manifest, name: str) -> str:
    """Text and snippets. `name`: the artifact's directory."""
    path = f"path/to/{name}"
    parts = [f"In a recipe of `python -m eval`:\n\n{_fence('yaml', recipe(manifest, path))}"]
    pruned = "draft_from" in manifest.base and manifest.kind == "lora"
    if manifest.kind == "lora" and not pruned:
        base = base_repository(manifest) or base_name(manifest)
        parts.append(f"With PEFT:\n\n{_fence('python', _peft(base, path))}")
    if manifest.kind == "lora":
        adapters = _adapters(manifest) if pruned else []
        options = "".join(f" --target-adapter {adapter}" for adapter in adapters)
        command = f"draftsmith export {path} --merge path/to/{name}-merged{options}"
        parts.append(f"As a full model, for everything else:\n\n{_fence('', command)}")
    else:
        parts.append(f"With transformers:\n\n{_fence('python', _transformers(path))}")
    if "draft" in manifest.provides:
        parts.append(_vllm(manifest, f"{path}-merged" if manifest.kind == "lora" else path))
    return "\n\n".join(parts)


def recipe(manifest: Manifest, path: str) -> str:
    """The lines of an eval recipe that put the artifact to use."""
    if "draft" not in manifest.provides:
        if manifest.kind != "lora":
            return f"target: {path}"
        return f"target: {base_name(manifest)}\nuse: [{path}]"
    bound = manifest.binds.get("target", {"name": "TARGET"})
    adapters = "".join(f"\nuse: [{', '.join(found)}]" for found in [_adapters(manifest)] if found)
    draft = f"methods:\n  - {{name: drafted, proposer: {{type: draft_model, model: {path}}}}}"
    return f"target: {bound['name']}{adapters}\n{draft}"


def speculative_config(path: str) -> dict[str, Any]:
    """What vLLM is told of a draft model."""
    return {
        "method": "draft_model",
        "model": path,
        "num_speculative_tokens": TOKENS,
        "draft_tensor_parallel_size": 1,
    }


def _adapters(manifest: Manifest) -> list[str]:
    """A placeholder for each adapter of the target, with the digest that tells which one it is."""
    digests = manifest.binds.get("target", {}).get("adapters", [])
    return [f"path/to/adapter-{digest[:12]}" for digest in digests]


def _vllm(manifest: Manifest, path: str) -> str:
    bound = manifest.binds.get("target", {"name": "TARGET", "adapters": []})
    target = "path/to/target-merged" if bound["adapters"] else bound["name"]
    merged = " (its adapters merged into it: `draftsmith export ADAPTER --merge`)" if bound["adapters"] else ""
    command = f"vllm serve {target} --speculative-config '{json.dumps(speculative_config(path))}'"
    return (
        f"In vLLM, with the full model as draft for its target{merged}:\n\n{_fence('', command)}\n\n"
        "vLLM drafts greedily unless told otherwise, so its acceptance at temperatures above zero is another."
    )


def _peft(base: str, path: str) -> str:
    return "\n".join(
        [
            "from peft import PeftModel",
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            "",
            f'tokenizer = AutoTokenizer.from_pretrained("{base}")',
            f'model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("{base}"), "{path}")',
        ]
    )


def _transformers(path: str) -> str:
    return "\n".join(
        [
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            "",
            f'tokenizer = AutoTokenizer.from_pretrained("{path}")',
            f'model = AutoModelForCausalLM.from_pretrained("{path}")',
        ]
    )


def _fence(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```"
