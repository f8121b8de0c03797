"""An artifact as a full directory that needs neither PEFT nor us, with manifest and card.

A draft made of its target becomes an ordinary Hugging Face model: its own tensors, and the target's for the rest. That
target, with the adapters it had, is asked for and checked. A head stays a head, with its target's name in its config.
`speculative_config.json` beside either tells vLLM of it by name.
"""

import dataclasses
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from toolkit import adapters, artifact, binding, methods, sources, trim
from toolkit.artifact import Manifest
from toolkit.engine.types import Request, Sampling
from toolkit.errors import UserError
from toolkit.export import card, head, merge, usage
from toolkit.files import write_json
from toolkit.hub import ModelConfig, Models
from toolkit.loading import TARGET, load

SIDE_FILE = "speculative_config.json"
_LICENCES = ("LICENSE*", "NOTICE*")
_PROMPTS = ("Ten apples and two", "The capital of France", "def add(a, b):", "1 + 1 =")
_TOKENS = 16


def export(
    directory: Path,
    out: Path,
    *,
    target: str | None = None,
    target_adapters: Sequence[str] = (),
    verifier: str | None = None,
    embeddings: bool = False,
) -> Manifest:
    """Write the full directory to `out`, whole or not at all -> its manifest.

    `target`: where the target is, if not where the manifest says; `target_adapters`: the adapters it had, in order.
    `verifier`: what a head's config calls its target; `embeddings`: the target's go into the head's file.
    """
    manifest = artifact.verify(directory)
    merge.refuse_occupied(out)
    head_only = verifier is not None or embeddings
    if manifest.kind == "model" and not (directory / trim.FILE).is_file():
        raise UserError(f"{directory}: is a full model already (kind '{manifest.kind}'); copy it, or use --push.")
    if head_only and manifest.kind != "eagle3":
        raise UserError(
            f"{directory}: is no EAGLE-3 head (kind '{manifest.kind}'); leave out --verifier, --embeddings."
        )
    needed = _of_target(manifest) or embeddings
    if not needed and (target or target_adapters):
        raise UserError(
            f"{directory}: nothing of its target goes into it (base: '{manifest.base.get('name', 'none')}'); leave out "
            "--target and --target-adapter."
        )
    model = _target(directory, manifest, target, target_adapters) if needed else None
    if manifest.kind == "eagle3":
        head.write(directory, manifest, out, verifier, model)
        complete = _complete_head
    else:
        vocabulary = merge.export_merged([directory], out, model)
        if vocabulary is not None:  # for the card
            known = manifest.training | {"draft_vocabulary": len(vocabulary)}
            manifest = dataclasses.replace(manifest, training=known)
        complete = _complete
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, out, ignore_errors=True)
        written = complete(directory, manifest, out)
        undo.pop_all()
    if (out / SIDE_FILE).is_file():
        sources.say(f"{out / SIDE_FILE} gives 'model' by its name alone; put the path there under which vLLM finds it")
    return written


def _of_target(manifest: Manifest) -> bool:
    """Made of its target, be it by way of a draft that was."""
    name = manifest.base.get("name", "")
    below = Path(name).expanduser()
    if not name or name == TARGET or not (below / artifact.MANIFEST).is_file():
        return name == TARGET
    return _of_target(artifact.read(below))


def _target(directory: Path, manifest: Manifest, name: str | None, given: Sequence[str]) -> ModelConfig:
    """The target that the artifact was made of, checked to be the one it is bound to."""
    bound = manifest.binds.get("target")
    if bound is None:
        raise UserError(
            f"{directory / artifact.MANIFEST}: key 'binds.target' is missing, so the target that it was made of is not "
            "known. Train the artifact again."
        )
    directories = [adapters.read(adapter)[0] for adapter in given]
    digests = [artifact.digest(adapter) for adapter in directories]
    if digests != bound["adapters"]:
        raise UserError(
            f"{directory / artifact.MANIFEST}: key 'binds.target.adapters': made of {bound['name']} with the adapters "
            f"{binding.shortened(bound['adapters'])} (SHA-256, in this order); --target-adapter gave "
            f"{binding.shortened(digests)}. Give each adapter's directory with a --target-adapter of its own."
        )
    config = ModelConfig(name or bound["name"], adapters=[str(adapter) for adapter in directories])
    _, tokenizer, origin = load(config, None)
    binding.check(directory, bound, origin.identity(tokenizer))
    return config


def _complete(directory: Path, manifest: Manifest, out: Path) -> Manifest:
    """What is beside the weights: licence files, vLLM's side file, manifest, card."""
    with artifact.writing(out):
        _copy_licences(directory, out)
        if "draft" in manifest.provides:
            write_json(out / SIDE_FILE, usage.speculative_config(out.resolve().name))  # no path of this machine
    # The base stays in the manifest as what the model came from: the card names it
    untried = {"skipped": "not tried yet"}
    merged = artifact.write(out, dataclasses.replace(manifest, kind="model", shares=[], smoke=untried))
    merged = artifact.write(out, dataclasses.replace(merged, smoke=_tried(out)))
    card.write(out)
    return merged


def _complete_head(directory: Path, manifest: Manifest, out: Path) -> Manifest:
    """The same beside a head, which was read again already; decoding with it would need its target."""
    with artifact.writing(out):
        _copy_licences(directory, out)
        write_json(out / SIDE_FILE, head.speculative_config(out, out.resolve().name))
    written = artifact.write(out, manifest)
    card.write(out)
    return written


def _copy_licences(directory: Path, out: Path) -> None:
    for path in (path for pattern in _LICENCES for path in directory.glob(pattern)):
        shutil.copy2(path, out / path.name)


def _tried(out: Path) -> dict[str, int]:
    """What was saved is loaded again and decodes: by itself, as the training data may be on another machine."""
    models = Models(ModelConfig(str(out)))
    requests = [Request(i, tuple(models.target.tokenizer(text)["input_ids"])) for i, text in enumerate(_PROMPTS)]
    baseline = methods.decoder(methods.resolve("baseline", out), models)
    done = baseline.generate(requests, Sampling(max_new_tokens=_TOKENS))
    return {"prompts": len(requests), "tokens": sum(len(one.tokens) for one in done)}
