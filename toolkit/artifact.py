"""An artifact: a directory in its native format (a PEFT LoRA, a Hugging Face model) and `manifest.json` beside it.

The manifest says what slots the artifact fills, which weights it is added to and was trained for, how it was made and
what was measured with it. `files` has the SHA-256 of each other file, so that a damaged or swapped one is noticed.
A directory appears whole or not at all: it is filled under another name and then renamed (`publish`).
"""

import dataclasses
import hashlib
import json
import os
import shutil
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from toolkit.errors import UserError
from toolkit.files import swap, write_json

MANIFEST = "manifest.json"
FORMAT = 1
_CARD = "README.md"  # rendered from the manifest, any number of times
_IDENTITY = {"name": str, "fingerprint": str, "tokenizer": str, "adapters": list}  # see toolkit.binding
_CONFIGS = ("adapter_config.json", "config.json")


@dataclass
class Manifest:
    """What a person or a program has to know about an artifact before it loads it."""

    kind: str  # the native format: lora, model, delta, eagle3, specdecpp, jointadaspec, autojudge, consensus, router
    provides: list[str]  # the slots that it fills: target, draft, proposer, length, accept
    method: str  # how it was trained, in words for people
    base: dict[str, Any]  # the weights it is added to: a ModelConfig as a mapping; {} where it is a whole model
    binds: dict[str, dict[str, Any]]  # role -> `Models.identity()` of the model that it was trained with
    recipe: dict[str, Any]  # path, command, config (the whole recipe)
    data: dict[str, Any]  # fingerprint, rows, tokens, sources, dropped
    training: dict[str, Any]  # steps, epochs, seconds, best_eval_loss, hardware, world_size, versions
    code: dict[str, Any]  # `toolkit.version.code()`
    licence: str  # SPDX id of the base model's licence; "" when unknown
    metrics: list[dict[str, Any]]  # one entry a measurement, each with the hardware and the file of its result
    smoke: dict[str, Any]  # what the reloaded artifact decoded, or {"skipped": why}
    created: str  # ISO date and time, UTC
    format: int = FORMAT
    shares: list[str] = field(default_factory=list)  # modules that are not stored: they are the base's, or the target's
    # A method with it: target, proposer and the slots that it fills, with "." for its own directory. Not of drafts
    composes: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)  # path in the directory -> SHA-256, set by `write`

    def pieces(self, directory: Path | str) -> dict[str, Any]:
        """The slots of `composes` as a recipe's method has them, with this artifact in that directory."""
        return {
            slot: {key: str(directory) if value == "." else value for key, value in piece.items()}
            for slot, piece in self.composes.items()
            if slot != "target"
        }


def write(directory: Path, manifest: Manifest) -> Manifest:
    """Hash the files in the directory and write its manifest -> the manifest with these hashes."""
    with writing(directory):
        paths = [path for path in directory.rglob("*") if path.is_file() and path.name not in (MANIFEST, _CARD)]
        names = sorted(path.relative_to(directory).as_posix() for path in paths)
        complete = dataclasses.replace(manifest, files={name: _sha256(directory / name) for name in names})
        write_json(directory / MANIFEST, dataclasses.asdict(complete))
    return complete


def read(directory: Path) -> Manifest:
    """The manifest of an artifact, its keys and their types checked; the files are not looked at."""
    path = directory / MANIFEST
    if not path.is_file():
        raise UserError(
            f"{directory}: no {MANIFEST}, so this is no artifact. Expected a directory that a training program of "
            "draftsmith wrote; a PEFT directory from elsewhere goes into a model's `adapters`."
        )
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as JSON ({error}). Copy or train the artifact again.") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a JSON object, got a {type(data).__name__}. Copy the artifact again.")
    if data.get("format") != FORMAT:
        raise UserError(
            f"{path}: key 'format' is {data.get('format')!r}; this version of draftsmith reads {FORMAT}. "
            "Use the version that wrote the artifact (key 'code'), or train it again."
        )
    return _checked(data, path)


def verify(directory: Path) -> Manifest:
    """`read`, and every file is the one that was written."""
    manifest = read(directory)
    for name, expected in manifest.files.items():
        path = directory / name
        if not path.is_file():
            raise UserError(f"{path}: missing, though {MANIFEST} lists it. Copy or train the artifact again.")
        if (found := _sha256(path)) != expected:
            raise UserError(
                f"{path}: SHA-256 is {found[:12]}..., {MANIFEST} says {expected[:12]}...: the file is damaged or was "
                "changed after training. Copy or train the artifact again."
            )
    for path in _weights(directory):
        if path.name not in manifest.files:
            raise UserError(f"{path}: {MANIFEST} does not list this file. Remove it, or train the artifact again.")
    return manifest


def digest(directory: Path) -> str:
    """One SHA-256 that names the weights in a directory, whether or not it has a manifest."""
    total = hashlib.sha256()
    for path in _weights(directory):
        total.update(f"{path.name} {_sha256(path)}\n".encode())
    return total.hexdigest()


def partial(final: Path) -> Path:
    """An empty directory beside `final` to fill and then `publish`; what an interrupted run left there is dropped."""
    beside = final.with_name(f".{final.name}.partial")
    with writing(final):
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
    return beside


def publish(partial: Path, final: Path) -> None:
    """A finished directory takes the place of the earlier one, which stays as it is if anything fails."""
    aside = final.with_name(f".{final.name}.old")
    with writing(final):
        if aside.exists() and not final.exists():  # a run was killed between the two renames below
            aside.rename(final)
        shutil.rmtree(aside, ignore_errors=True)
        if not final.exists():
            partial.rename(final)
            return
        if swap(partial, final):
            shutil.rmtree(partial, ignore_errors=True)
            return
        final.rename(aside)
        try:
            partial.rename(final)
        except OSError:
            aside.rename(final)
            raise
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def writing(directory: Path) -> Iterator[None]:
    """A disk that is full, or may not be written to, becomes a UserError that names the directory."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise UserError(
            f"{directory}: cannot be written ({reason}). What was there before is kept. Free some space or choose "
            "another directory, and run the same command again."
        ) from error


def _checked(data: dict[str, Any], path: Path) -> Manifest:
    hints = typing.get_type_hints(Manifest)
    later = {field.name for field in dataclasses.fields(Manifest) if field.default_factory is not dataclasses.MISSING}
    for key, hint in hints.items():
        if key in later and key not in data:  # came to the format after the manifest was written
            continue
        kind = typing.get_origin(hint) or hint
        if not isinstance(data.get(key), kind):
            found = repr(data[key])[:60] if key in data else "missing"
            raise UserError(f"{path}: key '{key}' is {found}; expected a {kind.__name__}. Train the artifact again.")
    if unknown := sorted(data.keys() - hints.keys()):
        raise UserError(f"{path}: unknown key '{unknown[0]}'. Use the version of draftsmith that wrote it.")
    for role, bound in data["binds"].items():
        if not isinstance(bound, dict) or bound.keys() != _IDENTITY.keys():
            raise UserError(
                f"{path}: key 'binds.{role}' is {str(bound)[:60]}; expected a mapping with "
                f"{', '.join(sorted(_IDENTITY))}. Train the artifact again."
            )
    for name, value, kind in _within(data):
        if not isinstance(value, kind):
            found = repr(value)[:60]
            raise UserError(f"{path}: key '{name}' is {found}; expected a {kind.__name__}. Train the artifact again.")
    return Manifest(**data)


def _within(data: dict[str, Any]) -> Iterator[tuple[str, Any, type]]:
    """Key, value and expected type of what programs read inside the mappings of a manifest."""
    for role, bound in data["binds"].items():
        for key, kind in _IDENTITY.items():
            yield f"binds.{role}.{key}", bound[key], kind
    for slot, piece in data.get("composes", {}).items():
        yield f"composes.{slot}", piece, dict
    if "config" in data["recipe"]:
        yield "recipe.config", data["recipe"]["config"], dict


def _weights(directory: Path) -> list[Path]:
    """The files that decide what a model computes: its weights and their configuration."""
    configs = [directory / name for name in _CONFIGS if (directory / name).is_file()]
    return sorted([*configs, *directory.glob("*.safetensors")])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
