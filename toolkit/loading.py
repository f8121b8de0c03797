"""From a ModelConfig to a Hugging Face model: found, read, adapters merged, pruned; and where it all came from.

A name may be an artifact. A LoRA then means the model that its manifest names as `base`, with the LoRA merged into it:
into the pruned model, where the base is one (`draft_from`). A delta means its base with some tensors replaced. A
vocabulary beside either trims the head. A ModelConfig's own `adapters` are merged before pruning.
"""

import dataclasses
import hashlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils.logging import ERROR, disable_progress_bar, get_verbosity, set_verbosity

from toolkit import adapters, artifact, binding, delta, prune, sources, tiny, trim
from toolkit.artifact import Manifest
from toolkit.binding import Identity
from toolkit.config import parse
from toolkit.engine.vocabulary import Vocabulary
from toolkit.errors import NotThere, UserError

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
TARGET = "target"  # the name that stands for the recipe's target


@dataclass(frozen=True)
class DraftFrom:
    """A draft made of these layers of the model named."""

    layers: list[int]


@dataclass(frozen=True)
class ModelConfig:
    """A model in a recipe. A bare string is its name."""

    name: str  # a path, a hub name, smollm2-135m, tiny-random:<family>[:seed], or `target` in a piece
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # auto: float32 on a CPU, bfloat16 on CUDA
    device: str = "auto"  # auto: CUDA where there is one
    quant: Literal["none", "8bit", "4bit"] = "none"
    revision: str | None = None
    draft_from: DraftFrom | None = None
    adapters: list[str] = field(default_factory=list)  # PEFT LoRA directories, merged in this order, before draft_from

    @property
    def label(self) -> str:
        """The weights by name: what results list them under."""
        revision = f"@{self.revision}" if self.revision else ""
        return " + ".join([self.name + revision, *self.adapters])


@dataclass(frozen=True)
class Origin:
    """Where a model's weights come from."""

    name: str
    source: str  # in words
    fingerprint: str  # SHA-256 of the weights before any adapter
    adapters: tuple[str, ...] = ()  # the digests of those merged into them
    vocabulary: Vocabulary | None = field(default=None, compare=False)  # of a head that was trimmed

    def provenance(self) -> dict[str, str]:
        """The fingerprint that rows are filed under: another adapter makes another model."""
        if not self.adapters:
            return {"source": self.source, "fingerprint": self.fingerprint}
        whole = hashlib.sha256(" ".join((self.fingerprint, *self.adapters)).encode())
        return {"source": self.source, "fingerprint": whole.hexdigest()}

    def identity(self, tokenizer: PreTrainedTokenizerBase) -> Identity:
        """What an artifact that is trained with this model is bound to."""
        name = binding.repository(self.name) or self.name
        hashed = binding.tokenizer_hash(tokenizer)
        return {"name": name, "fingerprint": self.fingerprint, "tokenizer": hashed, "adapters": list(self.adapters)}


Loaded = tuple[PreTrainedModel, PreTrainedTokenizerBase, Origin]


def spelled_out(config: ModelConfig, target: ModelConfig) -> ModelConfig:
    """`name: target` is the target's own config with whatever the draft's says differently."""
    if config.name != TARGET:
        return config
    default, given = vars(ModelConfig(TARGET)), vars(config)
    changed = {key: value for key, value in given.items() if value != default[key]}
    return dataclasses.replace(target, **changed | {"name": target.name})


def load(config: ModelConfig, target: ModelConfig | None) -> Loaded:
    """The model in eval mode, its tokenizer and its origin. `target`: what `target` means in a manifest's base."""
    needs = "draft_from" if config.draft_from else "adapters" if config.adapters else None
    if needs and config.quant != "none":
        raise UserError(f"model '{config.name}': {needs} needs quant: none, got {config.quant}.")
    if _has_base(Path(config.name).expanduser()):
        model, tokenizer, origin = _added(config, target)
    else:
        model, tokenizer, origin = _read(config)
    for name in config.adapters:
        directory, manifest = adapters.read(name)
        adapters.check_base(directory, manifest, origin.identity(tokenizer))
        model, origin = _merged(model, origin, directory, config.name)
    if config.draft_from:
        model = prune.pruned(model, config.draft_from.layers, config.name)
    return model.eval(), tokenizer, origin


def identify(config: ModelConfig, target: ModelConfig | None = None) -> Identity:
    """What an artifact that is trained for this model is bound to; the weights are not loaded. target: as in `load`."""
    base, digests, vocabulary = _without_adapters(config, target)
    if base.name.startswith(tiny.PREFIX):
        origin = _seeded(base)
    else:
        source = sources.resolve(base.name, base.revision)
        origin = Origin(base.name, source.how, source.fingerprint())
        own = trim.read(source.path)
        vocabulary = own if vocabulary is None else vocabulary
    if vocabulary is not None:
        origin = _cut(origin, vocabulary)
    return dataclasses.replace(origin, adapters=tuple(digests)).identity(_tokenizer(base))


def read_tokenizer(config: ModelConfig) -> PreTrainedTokenizerBase:
    """The model's tokenizer; the weights are not loaded."""
    return _tokenizer(_without_adapters(config, None)[0])


def _tokenizer(base: ModelConfig) -> PreTrainedTokenizerBase:
    if base.name.startswith(tiny.PREFIX):
        return tiny.byte_tokenizer()
    return AutoTokenizer.from_pretrained(sources.resolve(base.name, base.revision).path, trust_remote_code=False)


def _without_adapters(
    config: ModelConfig, target: ModelConfig | None
) -> tuple[ModelConfig, list[str], Vocabulary | None]:
    """The model that all adapters are merged into, their digests in order, and the vocabulary that one brings."""
    digests = [artifact.digest(adapters.read(name)[0]) for name in config.adapters]
    if not _has_base(Path(config.name).expanduser()):
        return config, digests, None
    directory, manifest = _opened(config)
    base, below, vocabulary = _without_adapters(_named(config, manifest, target), target)
    own = trim.read(directory)
    return base, [*below, artifact.digest(directory), *digests], own if vocabulary is None else vocabulary


def _has_base(directory: Path) -> bool:
    """An artifact that holds what is added to another model: a LoRA, or a delta."""
    return adapters.is_adapter(directory) or delta.is_delta(directory)


def _opened(config: ModelConfig) -> tuple[Path, Manifest]:
    """Such an artifact's directory, its files checked, and its manifest, which names that other model."""
    directory = Path(config.name).expanduser()
    if delta.is_delta(directory):
        return directory, artifact.verify(directory)
    directory, manifest = adapters.read(config.name)
    if manifest is None:
        raise UserError(
            f"model '{config.name}': a LoRA without {artifact.MANIFEST}, which would name its model. "
            f"Write {{name: MODEL, adapters: ['{config.name}']}} instead."
        )
    return directory, manifest


def _seeded(config: ModelConfig) -> Origin:
    return Origin(config.name, "seeded", hashlib.sha256(config.name.encode()).hexdigest())


def _read(config: ModelConfig) -> Loaded:
    """The model of this name as it is."""
    device = _device(config)
    automatic = torch.bfloat16 if device.type == "cuda" else torch.float32
    dtype = _DTYPES.get(config.dtype, automatic)
    if config.name.startswith(tiny.PREFIX):
        model, tokenizer = tiny.build(config.name)
        model = model.to(dtype)
        origin = _seeded(config)
    else:
        source = sources.resolve(config.name, config.revision)
        sources.say(f"{config.name} from {source.how}: {source.path}")
        if source.how == "path" and (source.path / artifact.MANIFEST).is_file():
            artifact.verify(source.path)
        model, tokenizer, own = _from_directory(source.path, config, dtype, device)
        origin = _trimmed(model, Origin(config.name, source.how, source.fingerprint()), source.path, own)
    if config.quant == "none":  # a quantised model is on its device already
        model = model.to(device)
    return model, tokenizer, origin


def _added(config: ModelConfig, target: ModelConfig | None) -> Loaded:
    """The model that an artifact names in its manifest, with what the artifact holds added to it."""
    directory, manifest = _opened(config)
    if config.quant != "none":
        raise UserError(
            f"model '{config.name}': its weights are added to another model's, which needs quant: none, got "
            f"{config.quant}."
        )
    base = _base(config, manifest, target)
    model, tokenizer, origin = load(base, target)
    if "target" in manifest.provides:
        adapters.check_base(directory, manifest, origin.identity(tokenizer))
    if "base" in manifest.binds:  # a draft with a model of its own
        binding.check(directory, manifest.binds["base"], origin.identity(tokenizer))
    origin = _trimmed(model, origin, directory)  # first: what was trained was the trimmed model
    if manifest.kind == delta.KIND:
        delta.fill(model, directory, manifest)
        origin = _with(origin, "delta", directory)
    else:
        model, origin = _merged(model, origin, directory, _called(base))
    return model, tokenizer, origin


def _named(config: ModelConfig, manifest: Manifest, target: ModelConfig | None) -> ModelConfig:
    """The manifest's `base`; where that is the target, the target's own config with what the base says differently."""
    where = Path(config.name) / artifact.MANIFEST
    base = parse(ModelConfig, manifest.base, f"{where}: key 'base'")
    if base.name != TARGET:
        return base
    if target is None:
        raise UserError(f"model '{config.name}' is made of its target (key 'base' of {where}); name a target too.")
    return spelled_out(base, target)


def _base(config: ModelConfig, manifest: Manifest, target: ModelConfig | None) -> ModelConfig:
    """What the manifest names, on the device and in the dtype that the recipe asks for."""
    base = _named(config, manifest, target)
    if manifest.base["name"] == TARGET:
        base = dataclasses.replace(base, quant="none")
    dtype = base.dtype if config.dtype == "auto" else config.dtype
    return dataclasses.replace(base, dtype=dtype, device=base.device if config.device == "auto" else config.device)


def _merged(model: PreTrainedModel, origin: Origin, directory: Path, into: str) -> tuple[PreTrainedModel, Origin]:
    """into: what the user calls the model, which may be an artifact over that of the origin."""
    return adapters.merge(model, directory, into), _with(origin, "adapter", directory)


def _called(config: ModelConfig) -> str:
    if config.draft_from is None:
        return config.label
    return f"layers {', '.join(map(str, config.draft_from.layers))} of {config.label}"


def _with(origin: Origin, what: str, directory: Path) -> Origin:
    digest = artifact.digest(directory)
    source = f"{origin.source} + {what} {digest[:12]}"
    return dataclasses.replace(origin, source=source, adapters=(*origin.adapters, digest))


def _trimmed(model: PreTrainedModel, origin: Origin, directory: Path, own: Tensor | None = None) -> Origin:
    """The model's head is trimmed where the directory has a vocabulary. own: a head that was stored trimmed."""
    vocabulary = trim.read(directory)
    if vocabulary is None:
        return origin
    if origin.vocabulary is not None:
        raise UserError(f"{directory / trim.FILE}: the model that this draft is added to has a trimmed head already.")
    trim.check(model, vocabulary, directory)
    trim.trim(model, vocabulary)
    if own is not None:
        with torch.no_grad():
            model.get_output_embeddings().weight.copy_(own)
    return _cut(origin, vocabulary)


def _cut(origin: Origin, vocabulary: Vocabulary) -> Origin:
    """Where a model with a trimmed head comes from."""
    other = hashlib.sha256(f"{origin.fingerprint} {vocabulary.ids.tolist()}".encode()).hexdigest()
    return dataclasses.replace(origin, fingerprint=other, vocabulary=vocabulary)


def _from_directory(
    path: Path, config: ModelConfig, dtype: torch.dtype, device: torch.device
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Tensor | None]:
    """-> the model, its tokenizer, and the head where it was stored trimmed: the model's own is to be replaced then."""
    disable_progress_bar()
    options: dict[str, Any] = {"dtype": dtype, "use_safetensors": True, "trust_remote_code": False}
    if config.quant != "none":
        options |= {"quantization_config": _quantisation(config, device, dtype), "device_map": {"": device}}
    own = trim.own_head(path)
    try:
        AutoConfig.from_pretrained(path, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        with _errors_only(own is not None):
            model, info = AutoModelForCausalLM.from_pretrained(
                path, **options, ignore_mismatched_sizes=own is not None, output_loading_info=True
            )
    except (OSError, ValueError) as error:  # unknown architecture, code of its own, no tokenizer, broken file
        raise UserError(f"model '{config.name}' ({path}) does not load: {error}") from error
    wrong = sorted({*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"] if key != trim.HEAD)})
    if wrong and config.quant == "none":  # transformers would leave random weights there
        raise UserError(
            f"model '{config.name}' ({path}): its weights have no {wrong[0]}, or one of another shape; expected all "
            "tensors of the model that config.json describes. Copy or save the model again."
        )
    return model, tokenizer, own


@contextmanager
def _errors_only(wanted: bool) -> Iterator[None]:
    """transformers reports at length on a head of another size than the config's, which is what a trimmed one has."""
    before = get_verbosity()
    set_verbosity(ERROR if wanted else before)
    try:
        yield
    finally:
        set_verbosity(before)


def _quantisation(config: ModelConfig, device: torch.device, dtype: torch.dtype) -> BitsAndBytesConfig:
    if device.type != "cuda" or importlib.util.find_spec("bitsandbytes") is None:
        raise NotThere(
            f"model '{config.name}': quant: {config.quant} needs a CUDA device and the extra packages of "
            "`pip install 'draftsmith[quant]'`. Set quant: none otherwise."
        )
    if config.quant == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


def _device(config: ModelConfig) -> torch.device:
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(config.device)
    except RuntimeError:
        raise UserError(
            f"model '{config.name}': device '{config.device}': expected auto, cpu, cuda or cuda:N."
        ) from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise NotThere(f"model '{config.name}': device '{config.device}' is not there; set device: auto or cpu.")
    return device
