"""A model put together from its parts, as a plain Hugging Face directory: for vLLM, and for whoever has no PEFT.

LoRA adapters are merged in the dtype that the model loads in: an adapter trained on bfloat16 weights and merged into
float16 ones is another model. The directory's name is a hash of what was merged, so a stale merge is never mistaken
for this one.
"""

import gc
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock
from transformers.utils.logging import disable_progress_bar

from toolkit import adapters, artifact, delta, sources, tiny
from toolkit.config import parse
from toolkit.engine.vocabulary import Vocabulary
from toolkit.errors import UserError
from toolkit.export import whole
from toolkit.loading import ModelConfig, spelled_out


@contextmanager
def merged_directory(
    model: ModelConfig, home: Path, *, target: ModelConfig | None = None, keep_merged: bool = False
) -> Iterator[Path]:
    """The merged model's directory for as long as the block runs; kept under `home` for the next time if asked to.

    Each block has a directory of its own, as one that ends must not take another's away; one that was kept serves all.
    A model to which nothing is done is its own directory. `target` is what the name `target` means in a draft.
    """
    if plain := _plain(model):
        yield plain
        return
    kept = home / "merged" / _key(model, target)
    if keep_merged:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{kept}.lock"):
            if not sources.is_complete(kept):
                _write(model, target, kept)
    if sources.is_complete(kept):
        yield kept
        return
    own = kept.with_name(f"{kept.name}-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        _write(model, target, own)
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)


def export_merged(directories: Sequence[Path], out: Path, target: ModelConfig | None = None) -> Vocabulary | None:
    """The first artifact, with the adapters that follow merged in as well, as a directory for `transformers`.

    `target` names the model that a draft was made of; UserError where the artifact needs one, or `out` holds something.
    -> the vocabulary of a draft whose head was trimmed to it.
    """
    refuse_occupied(out)
    first, *more = directories
    dtype = artifact.read(first).training.get("dtype", "auto")  # another dtype would make another model
    return _write(ModelConfig(str(first), dtype=dtype, adapters=[str(directory) for directory in more]), target, out)


def refuse_occupied(out: Path) -> None:
    """UserError where something is in the way of a directory that is to be written."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: exists and is not an empty directory. Choose another place, or remove it first.")


def _write(model: ModelConfig, target: ModelConfig | None, directory: Path) -> Vocabulary | None:
    """Written beside and renamed: the directory appears whole or not at all."""
    disable_progress_bar()
    merged, tokenizer, vocabulary = whole.load_whole(model, target)
    if vocabulary is not None:
        sources.say(f"{model.name}: {whole.says(vocabulary)}")
    beside = artifact.partial(directory)
    try:
        with artifact.writing(directory):
            merged.save_pretrained(beside)
            tokenizer.save_pretrained(beside)
        artifact.publish(beside, directory)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    del merged
    gc.collect()
    torch.cuda.empty_cache()  # the memory is wanted by the engine that loads the directory
    return vocabulary


def _plain(model: ModelConfig) -> Path | None:
    """The directory of a model that needs no merge, where it has one."""
    made = model.adapters or model.draft_from or model.name.startswith(tiny.PREFIX)
    if made or _in_parts(Path(model.name).expanduser()):
        return None
    return sources.resolve(model.name, model.revision).path


def _in_parts(directory: Path) -> bool:
    """An artifact that is added to a model, which its manifest names."""
    return adapters.is_adapter(directory) or delta.is_delta(directory)


def _key(model: ModelConfig, target: ModelConfig | None) -> str:
    """A hash of the base's weights, each adapter's, and what decides how they are put together."""
    model = model if target is None else spelled_out(model, target)
    directory = Path(model.name).expanduser()
    if _in_parts(directory):
        base = parse(ModelConfig, artifact.read(directory).base, f"{directory / artifact.MANIFEST}: key 'base'")
        weights = f"{_key(base, target)} {artifact.digest(directory)}"
    elif model.name.startswith(tiny.PREFIX):
        weights = model.name
    else:
        weights = sources.resolve(model.name, model.revision).fingerprint()
    digests = [artifact.digest(adapters.read(name)[0]) for name in model.adapters]
    # auto is another dtype where there is CUDA
    rest = [model.dtype, model.device, torch.cuda.is_available(), model.draft_from]
    return hashlib.sha256(" ".join(map(str, [weights, *digests, *rest])).encode()).hexdigest()[:32]
