"""Models by name: resolve, load, check that a draft speaks the target's language, wrap as a Runner.

`Models` is what a piece's `build` receives. It loads the target once, and a draft once however many methods use it.
The name `target` means the recipe's target: alone it is the very same Runner, with `draft_from` a pruned one.
"""

import dataclasses
import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils.logging import disable_progress_bar

from toolkit import prune, sources, tiny
from toolkit.engine.runner import Runner
from toolkit.errors import UserError

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


class Models:
    """The recipe's target, and whatever other models its pieces ask for.

    `provenance` says of every one loaded where its weights come from and what they are: a name alone does not, as the
    hub's smollm2-135m and the package's are two models. Keyed by name, `name@revision` where one was asked for.
    """

    def __init__(self, target: ModelConfig) -> None:
        if target.name == TARGET:
            raise UserError(f"target.name = '{TARGET}': name the model itself; only a draft may refer to the target.")
        self.config = target
        self.provenance: dict[str, dict[str, str]] = {}  # name -> {"source": in words, "fingerprint": SHA-256}
        model, tokenizer = self._read(target)
        self._width = model.config.get_text_config().vocab_size
        vocab = min(self._width, _size(tokenizer))  # padding ids beyond the tokenizer stand for no text
        self.target = Runner(model, tokenizer, name=target.name, vocab=vocab)
        self._loaded = {repr(target): self.target}

    def load(self, config: ModelConfig) -> Runner:
        """The model as a Runner over the target's vocabulary; UserError where the two do not fit."""
        config = self._spelled_out(config)
        key = repr(config)
        if key not in self._loaded:
            self._loaded[key] = self._draft(config)
        return self._loaded[key]

    def _spelled_out(self, config: ModelConfig) -> ModelConfig:
        """`name: target` is the target's own config with whatever the draft's says differently."""
        if config.name != TARGET:
            return config
        given = vars(config)
        changed = {f.name: given[f.name] for f in dataclasses.fields(config) if given[f.name] != f.default}
        return dataclasses.replace(self.config, **changed | {"name": self.config.name})

    def _draft(self, config: ModelConfig) -> Runner:
        # Read again even where the target is pruned: the target's own layers are packed by now
        model, tokenizer = self._read(config)
        vocab = check_compatible(
            (self.config.name, self.target.tokenizer.get_vocab(), self._width),
            (config.name, tokenizer.get_vocab(), model.config.get_text_config().vocab_size),
        )
        if vocab < self.target.vocab:  # baseline included: all methods must choose among the same tokens
            sources.say(
                f"target cut from {self.target.vocab} to {vocab} tokens, the width it shares with {config.name}"
            )
            for runner in self._loaded.values():  # the target, and drafts that were cut to its former width
                runner.vocab = min(runner.vocab, vocab)
        return Runner(model, tokenizer, name=config.name, vocab=self.target.vocab)

    def _read(self, config: ModelConfig) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        model, tokenizer, provenance = _load(config)
        self.provenance[f"{config.name}@{config.revision}" if config.revision else config.name] = provenance
        return model, tokenizer


def load_hf(config: ModelConfig) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The Hugging Face model (in eval mode, pruned if asked for) and its tokenizer. Says on stderr where from."""
    model, tokenizer, _ = _load(config)
    return model, tokenizer


def _load(config: ModelConfig) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, dict[str, str]]:
    if config.draft_from and config.quant != "none":
        raise UserError(f"model '{config.name}': draft_from needs quant: none, got {config.quant}.")
    device = _device(config)
    automatic = torch.bfloat16 if device.type == "cuda" else torch.float32
    dtype = _DTYPES.get(config.dtype, automatic)
    if config.name.startswith(tiny.PREFIX):
        model, tokenizer = tiny.build(config.name)
        model = model.to(dtype)
        provenance = {"source": "seeded", "fingerprint": hashlib.sha256(config.name.encode()).hexdigest()}
    else:
        source = sources.resolve(config.name, config.revision)
        sources.say(f"{config.name} from {source.how}: {source.path}")
        model, tokenizer = _from_directory(source.path, config, dtype, device)
        provenance = {"source": source.how, "fingerprint": source.fingerprint()}
    if config.draft_from:
        model = prune.pruned(model, config.draft_from.layers, config.name)
    if config.quant == "none":  # a quantised model is on its device already
        model = model.to(device)
    return model.eval(), tokenizer, provenance


Speaker = tuple[str, dict[str, int], int]  # name, token -> id, width of the logits


def check_compatible(target: Speaker, draft: Speaker) -> int:
    """The common vocabulary width of two models whose ids mean the same text; UserError with the first difference.

    Only the ids below it count: the same tokenizer is often padded to different widths (151,936 and 152,064).
    """
    (target_name, target_ids, target_width), (draft_name, draft_ids, draft_width) = target, draft
    common = min(target_width, draft_width, max(target_ids.values()) + 1, max(draft_ids.values()) + 1)
    for token, i in sorted(target_ids.items(), key=lambda item: item[1]):
        if i < common and draft_ids.get(token) != i:
            raise _incompatible(token, target_name, i, draft_name, draft_ids.get(token))
    for token, i in sorted(draft_ids.items(), key=lambda item: item[1]):
        if i < common and target_ids.get(token) != i:
            raise _incompatible(token, target_name, target_ids.get(token), draft_name, i)
    return common


def _incompatible(token: str, target: str, target_id: int | None, draft: str, draft_id: int | None) -> UserError:
    def at(i: int | None) -> str:
        return "is absent" if i is None else f"has id {i}"

    return UserError(
        f"models '{target}' and '{draft}' have different tokenizers, so one cannot draft for the other. First "
        f"difference: token {token!r} {at(target_id)} in '{target}' and {at(draft_id)} in '{draft}'. "
        "Take a draft of the target's own family."
    )


def _from_directory(
    path: Path, config: ModelConfig, dtype: torch.dtype, device: torch.device
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    disable_progress_bar()
    options: dict[str, Any] = {"dtype": dtype, "use_safetensors": True, "trust_remote_code": False}
    if config.quant != "none":
        options |= {"quantization_config": _quantisation(config, device, dtype), "device_map": {"": device}}
    try:
        AutoConfig.from_pretrained(path, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(path, **options)
    except (OSError, ValueError) as error:  # unknown architecture, code of its own, no tokenizer, broken file
        raise UserError(f"model '{config.name}' ({path}) does not load: {error}") from error
    return model, tokenizer


def _quantisation(config: ModelConfig, device: torch.device, dtype: torch.dtype) -> BitsAndBytesConfig:
    if device.type != "cuda" or importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
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
        raise UserError(f"model '{config.name}': device '{config.device}' is not there; set device: auto or cpu.")
    return device


def _size(tokenizer: PreTrainedTokenizerBase) -> int:
    return max(tokenizer.get_vocab().values()) + 1
