"""How to use an artifact: what a recipe of ours says, and what PEFT, transformers and vLLM are told.

A draft made of its target fits no other library as it is: there it is used as the full model that `draftsmith export
--merge` writes. A head is loaded by vLLM as it is, but names its target as it was called where it was trained.
"""

import json
from typing import Any

import yaml

from toolkit.artifact import Manifest
from toolkit.export import routers
from toolkit.export.metadata import TARGET, base_name, base_repository

_GREEDILY = "vLLM drafts greedily unless told otherwise, so its acceptance at temperatures above zero is another."
TOKENS = 5  # a round in vLLM, to begin with; the best number is a matter of hardware and acceptance


def how_to(manifest: Manifest, name: str) -> str:
    """Text and snippets. `name`: the artifact's directory."""
    path = f"path/to/{name}"
    parts = [f"In a recipe of `python -m eval`:\n\n{_fence('yaml', recipe(manifest, path))}"]
    if manifest.kind == routers.KIND:
        command = f'draftsmith generate --router {path} "Write a haiku."'
        parts.append(f"For a prompt:\n\n{_fence('', command)}")
    if manifest.composes:
        return "\n\n".join(parts)
    if manifest.kind == "eagle3":
        return "\n\n".join([*parts, *_head(manifest, path)])
    over_draft = bool(manifest.binds.get("base", {}).get("adapters"))  # which nobody loads by its name alone
    of_target = over_draft or manifest.base.get("name") == TARGET
    if manifest.kind == "lora" and not of_target:
        base = base_repository(manifest) or base_name(manifest)
        parts.append(f"With PEFT:\n\n{_fence('python', _peft(base, path))}")
    if manifest.kind in ("lora", "delta"):
        adapters = _adapters(manifest) if of_target else []
        options = "".join(f" --target-adapter {adapter}" for adapter in adapters)
        command = f"draftsmith export {path} --merge path/to/{name}-merged{options}"
        parts.append(f"As a full model, for everything else:\n\n{_fence('', command)}")
    else:
        parts.append(f"With transformers:\n\n{_fence('python', _transformers(path))}")
    if "draft" in manifest.provides:
        parts.append(_vllm(manifest, path if manifest.kind == "model" else f"{path}-merged"))
    return "\n\n".join(parts)


def recipe(manifest: Manifest, path: str) -> str:
    """The lines of an eval recipe that put the artifact to use."""
    if "target" in manifest.provides:
        if manifest.kind != "lora":
            return f"target: {path}"
        return f"target: {base_name(manifest)}\nuse: [{path}]"
    bound = manifest.binds.get("target", {"name": "TARGET"})
    if manifest.kind == routers.KIND:
        return f"target: {bound['name']}\nuse: [{path}]  # itself, and each of its drafts alone"
    if manifest.composes:
        method = {"name": manifest.kind} | manifest.pieces(path)
        line = yaml.safe_dump(method, default_flow_style=True, sort_keys=False, width=1000).strip()
        return f"target: {bound['name']}{_used(manifest)}\nmethods:\n  - {line}"
    proposer = f"type: draft_model, model: {path}" if "draft" in manifest.provides else f"type: eagle3, head: {path}"
    return f"target: {bound['name']}{_used(manifest)}\nmethods:\n  - {{name: drafted, proposer: {{{proposer}}}}}"


def speculative_config(path: str) -> dict[str, Any]:
    """What vLLM is told of a draft model."""
    return {
        "method": "draft_model",
        "model": path,
        "num_speculative_tokens": TOKENS,
        "draft_tensor_parallel_size": 1,
    }


def _used(manifest: Manifest) -> str:
    """The recipe's line that names the target's adapters."""
    return "".join(f"\nuse: [{', '.join(found)}]" for found in [_adapters(manifest)] if found)


def _adapters(manifest: Manifest) -> list[str]:
    """A placeholder for each adapter of the target, with the digest that tells which one it is."""
    digests = manifest.binds.get("target", {}).get("adapters", [])
    return [f"path/to/adapter-{digest[:12]}" for digest in digests]


def _vllm(manifest: Manifest, path: str) -> str:
    bound = manifest.binds.get("target", {"name": "TARGET", "adapters": []})
    target = "path/to/target-merged" if bound["adapters"] else bound["name"]
    merged = " (its adapters merged into it: `draftsmith export ADAPTER --merge`)" if bound["adapters"] else ""
    command = f"vllm serve {target} --speculative-config '{json.dumps(speculative_config(path))}'"
    return f"In vLLM, with the full model as draft for its target{merged}:\n\n{_fence('', command)}\n\n{_GREEDILY}"


def _head(manifest: Manifest, path: str) -> list[str]:
    """vLLM finds the target of a head by the name in its config."""
    adapters = manifest.binds.get("target", {"adapters": []})["adapters"]
    verifier = " --verifier path/to/target-merged" if adapters else ""
    merged = " and its target's adapters merged (`draftsmith export ADAPTER --merge`)" if adapters else ""
    export = f"draftsmith export {path} --merge {path}-exported{verifier}"
    return [
        f"For other engines, with the target's name in its config{merged}:\n\n{_fence('', export)}",
        f"In vLLM, which loads the target along with it:\n\n{_fence('', f'vllm serve {path}-exported')}",
        _GREEDILY,
    ]


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
