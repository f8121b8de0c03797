"""How every training program ends: the artifact is put together beside, reloaded, tried on four prompts, put in place.

Only then is success printed. What is tried is what was saved, through the same loading that users go through.
"""

import dataclasses
import importlib.metadata
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerBase

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
_BUILT_IN = [{"type": "steps", "split": "train", "limit": PROMPTS}]  # prompts that need no file


class Recipe(Protocol):
    """What the recipes of all trained pieces have."""

    method: str
    licence: str
    out: str | None


def lora(
    recipe: LoraRecipe, command: dict[str, Any], adapter: Path, binds: dict[str, Identity], figures: dict[str, Any]
) -> Manifest:
    """The artifact of a LoRA whose PEFT files are in `adapter`, in place in `recipe.out`.

    `binds`: see `bound`; `figures` has `data` and `training` of the manifest.
    """

    def fill(directory: Path) -> None:
        weights = load_file(adapter / adapters.WEIGHTS)
        stored = {name: tensor.to(_STORED[recipe.lora.stored]) for name, tensor in weights.items()}
        save_file(stored, directory / adapters.WEIGHTS, metadata={"format": "pt"})
        settings = json.loads((adapter / adapters.CONFIG).read_text())
        # The path that it was loaded from means nothing elsewhere; a draft made of its target has the target's name
        settings["base_model_name_or_path"] = binds.get("base", binds["target"])["name"]
        (directory / adapters.CONFIG).write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")

    kind, provides = "lora", ["target" if recipe.target is None else "draft"]
    return place(described(recipe, command, kind, provides, base(recipe.model), binds, figures), Path(recipe.out), fill)


def described(
    recipe: Recipe,
    command: dict[str, Any],
    kind: str,
    provides: list[str],
    base: dict[str, Any],
    binds: dict[str, Identity],
    figures: dict[str, Any],
    shares: Sequence[str] = (),
) -> Manifest:
    """The manifest of what a recipe has trained, not tried yet. `figures` has its `data` and `training`."""
    return Manifest(
        kind=kind,
        provides=provides,
        method=recipe.method,
        base=base,
        binds=binds,
        recipe=command | {"config": dataclasses.asdict(recipe)},
        data=figures["data"],
        training=figures["training"] | {"hardware": hardware()},
        code=version.code(),
        licence=recipe.licence,
        metrics=[],
        smoke={"skipped": "not tried yet"},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        shares=list(shares),
    )


def place(
    manifest: Manifest,
    out: Path,
    fill: Callable[[Path], None],
    prompts: Sequence[tuple[int, ...]] | None = None,
    absent: str | None = None,
    models: Models | None = None,
) -> Manifest:
    """Fill a directory beside `out`, reload and try it (on these prompts), put it in place -> its manifest.

    absent: why it cannot be tried here, if it cannot. models: see `smoke`.
    """
    beside = artifact.partial(out)
    with artifact.writing(out):
        fill(beside)
    artifact.write(beside, manifest)
    tried = {"skipped": absent} if absent else smoke(beside, manifest, prompts, models)
    manifest = artifact.write(beside, dataclasses.replace(manifest, smoke=tried))
    artifact.publish(beside, out)
    how = f"not tried yet (draftsmith check {out})" if absent else f"tried on {tried['prompts']} prompts"
    sources.say(f"{out} is there: {manifest.method}; {how}")
    return manifest


def finished(out: Path, recipe: Recipe) -> bool:
    """Whether the artifact of this very recipe is there already. UserError where something else is."""
    if not (out / artifact.MANIFEST).is_file():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"{out}: is there and is no artifact, so it is left alone. Set out=DIR elsewhere.")
        return False
    stored = artifact.verify(out).recipe.get("config", {})
    known = {key: value for key, value in stored.items() if key in dataclasses.asdict(recipe)}
    # Through the schema: a key that came to it later has its default there
    if (
        known != stored
        or config.parse(type(recipe), known, f"{out / artifact.MANIFEST}: key 'recipe.config'") != recipe
    ):
        raise UserError(
            f"{out}: holds the artifact of another recipe. Set out=DIR for this one, or delete {out} to replace it."
        )
    return True


def smoke(
    directory: Path,
    manifest: Manifest,
    prompts: Sequence[tuple[int, ...]] | None = None,
    models: Models | None = None,
) -> dict[str, Any]:
    """Reload an artifact and decode four prompts, greedily -> what came of it, for the manifest.

    Without prompts, those of the tasks that it was trained on, else of the built-in family. models: the target that an
    artifact composes a method with, if it is loaded already.
    """
    settings = manifest.recipe["config"]
    method = methods.resolve("baseline", directory)
    if "target" in manifest.provides:
        models = Models(ModelConfig(str(directory)))
    elif manifest.composes:
        composed = config.parse(ModelConfig, manifest.composes["target"], f"{directory}: composes.target")
        models = models or Models(composed)
        method = dataclasses.replace(method, **manifest.pieces(directory))
    else:
        models = Models(config.parse(ModelConfig, settings["target"], f"{directory}: recipe.config.target"))
        method = dataclasses.replace(method, proposer=_proposer(directory, manifest), length={"type": "fixed", "k": 4})
    if prompts is None:
        prompts = _prompts(settings.get("data", {}), models.target.tokenizer, directory)
    requests = [Request(i, prompt) for i, prompt in enumerate(prompts[:PROMPTS])]
    done = methods.decoder(method, models).generate(requests, Sampling(max_new_tokens=TOKENS))
    tokens, rounds = sum(len(one.tokens) for one in done), sum(one.rounds for one in done)
    if not tokens:
        raise UserError(f"{directory}: reloaded, it decodes no token; the artifact was not put in place.")
    proposed, accepted = (sum(window[i] for one in done for window in one.windows) for i in (0, 1))
    return {
        "prompts": len(requests),
        "tokens": tokens,
        "tau": round(tokens / rounds, 3) if rounds else None,  # None: a gate that never asked its target
        "proposed": proposed,
        "accepted": accepted,
    }


def _proposer(directory: Path, manifest: Manifest) -> dict[str, Any]:
    if "proposer" in manifest.provides:  # a head: its kind is the proposer's type
        return {"type": manifest.kind, "head": str(directory)}
    return {"type": "draft_model", "model": {"name": str(directory)}}


def _prompts(settings: dict[str, Any], tokenizer: PreTrainedTokenizerBase, directory: Path) -> list[tuple[int, ...]]:
    task = data.tasks((settings.get("tasks") or _BUILT_IN)[:1], directory)[0]
    chosen = task.problems()[:PROMPTS]
    return [chat.encode(task.messages(problem), tokenizer, settings.get("thinking", False)) for problem in chosen]


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


def base(model: ModelConfig) -> dict[str, Any]:
    """Only what was said: a manifest should not pin a device."""
    default = dataclasses.asdict(ModelConfig(TARGET))
    return {key: value for key, value in dataclasses.asdict(model).items() if key == "name" or value != default[key]}
