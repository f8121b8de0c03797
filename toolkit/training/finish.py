"""How every training program ends: the artifact is put together beside, reloaded, tried on four prompts, put in place.

Only then is success printed. What is tried is what was saved, through the same loading that users go through.
"""

import dataclasses
import importlib.metadata
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from toolkit import adapters, artifact, chat, config, methods, sources, version
from toolkit.artifact import Manifest
from toolkit.binding import Identity
from toolkit.engine.types import Request, Sampling
from toolkit.errors import UserError
from toolkit.evaluation import system
from toolkit.hub import ModelConfig, Models
from toolkit.loading import TARGET, identify
from toolkit.training import data
from toolkit.training.recipe import LoraRecipe

_STORED = {"float32": torch.float32, "bfloat16": torch.bfloat16}
PROMPTS, TOKENS = 4, 48  # what is tried


def lora(
    recipe: LoraRecipe, command: dict[str, Any], adapter: Path, binds: dict[str, Identity], figures: dict[str, Any]
) -> Manifest:
    """The artifact of a LoRA whose PEFT files are in `adapter`, in place in `recipe.out`.

    `binds`: see `bound`; `figures` has `data` and `training` of the manifest.
    """
    out = Path(recipe.out)
    beside = artifact.partial(out)
    with artifact.writing(out):
        weights = load_file(adapter / adapters.WEIGHTS)
        stored = {name: tensor.to(_STORED[recipe.lora.stored]) for name, tensor in weights.items()}
        save_file(stored, beside / adapters.WEIGHTS, metadata={"format": "pt"})
        settings = json.loads((adapter / adapters.CONFIG).read_text())
        # The path that it was loaded from means nothing elsewhere; a draft made of its target has the target's name
        settings["base_model_name_or_path"] = binds.get("base", binds["target"])["name"]
        (beside / adapters.CONFIG).write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
    manifest = Manifest(
        kind="lora",
        provides=["target" if recipe.target is None else "draft"],
        method=recipe.method,
        base=_base(recipe.model),
        binds=binds,
        recipe=command | {"config": dataclasses.asdict(recipe)},
        data=figures["data"],
        training=figures["training"] | {"hardware": hardware()},
        code=version.code(),
        licence=recipe.licence,
        metrics=[],
        smoke={"skipped": "not tried yet"},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    artifact.write(beside, manifest)
    manifest = artifact.write(beside, dataclasses.replace(manifest, smoke=smoke(beside, manifest)))
    artifact.publish(beside, out)
    sources.say(f"{out} is there: {manifest.method}; tried on {manifest.smoke['prompts']} prompts")
    return manifest


def finished(out: Path, recipe: LoraRecipe) -> bool:
    """Whether the artifact of this very recipe is there already. UserError where something else is."""
    if not (out / artifact.MANIFEST).is_file():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"{out}: is there and is no artifact, so it is left alone. Set out=DIR elsewhere.")
        return False
    stored = artifact.verify(out).recipe.get("config", {})
    known = {key: value for key, value in stored.items() if key in dataclasses.asdict(recipe)}
    # Through the schema: a key that came to it later has its default there
    if known != stored or config.parse(LoraRecipe, known, f"{out / artifact.MANIFEST}: key 'recipe.config'") != recipe:
        raise UserError(
            f"{out}: holds the artifact of another recipe. Set out=DIR for this one, or delete {out} to replace it."
        )
    return True


def smoke(directory: Path, manifest: Manifest) -> dict[str, Any]:
    """Reload an artifact and decode four of its training prompts, greedily -> what came of it, for the manifest."""
    settings = manifest.recipe["config"]
    method = methods.resolve("baseline", directory)
    if "target" in manifest.provides:
        models = Models(ModelConfig(str(directory)))
    else:
        models = Models(config.parse(ModelConfig, settings["target"], f"{directory}: recipe.config.target"))
        method = dataclasses.replace(
            method,
            proposer={"type": "draft_model", "model": {"name": str(directory)}},
            length={"type": "fixed", "k": 4},
        )
    tokenizer = models.target.tokenizer
    task = data.tasks(settings["data"]["tasks"][:1], directory)[0]
    requests = [
        Request(i, chat.encode(task.messages(problem), tokenizer, settings["data"]["thinking"]))
        for i, problem in enumerate(task.problems()[:PROMPTS])
    ]
    done = methods.decoder(method, models).generate(requests, Sampling(max_new_tokens=TOKENS))
    tokens, rounds = sum(len(one.tokens) for one in done), sum(len(one.windows) for one in done)
    if not tokens:
        raise UserError(f"{directory}: reloaded, it decodes no token; the artifact was not put in place.")
    proposed, accepted = (sum(window[i] for one in done for window in one.windows) for i in (0, 1))
    return {
        "prompts": len(requests),
        "tokens": tokens,
        "tau": round(tokens / rounds, 3),
        "proposed": proposed,
        "accepted": accepted,
    }


def bound(recipe: LoraRecipe) -> dict[str, Identity]:
    """What the artifact is bound to: the model that it is added to; a draft to its target, and to a base of its own."""
    if recipe.target is None:
        return {"target": identify(recipe.model)}
    target = {"target": identify(recipe.target)}
    return target if recipe.model.name == TARGET else target | {"base": identify(recipe.model)}


def hardware() -> dict[str, Any]:
    """What the run ran on, and the versions that it ran with."""
    found = system.metadata()
    libraries = {name: importlib.metadata.version(name) for name in ("accelerate", "peft", "trl")}
    return {key: found[key] for key in ("cpu", "gpu", "threads", "python", "torch", "transformers")} | libraries


def _base(model: ModelConfig) -> dict[str, Any]:
    """Only what was said: a manifest should not pin a device."""
    default = dataclasses.asdict(ModelConfig(TARGET))
    return {key: value for key, value in dataclasses.asdict(model).items() if key == "name" or value != default[key]}
