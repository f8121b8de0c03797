"""LoRA adapters in PEFT's format: read, checked against the model, merged in memory.

PEFT leaves a module untouched for which a file has no weights, and fails late and in its own words where shapes
differ; so the header of the weights file is compared with the model first. Only safetensors are read: the other format
that PEFT knows, adapter_model.bin, is a pickle.
"""

import json
import warnings
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from toolkit import artifact, binding, sources
from toolkit.artifact import Manifest
from toolkit.binding import Identity
from toolkit.errors import NotThere, UserError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."  # what PEFT puts before a module's name
_MODULES = (nn.Linear, Conv1D, nn.Embedding)  # the kinds of modules that a LoRA of a language model is added to
_MARKS = (".lora_A.", ".lora_B.", ".lora_embedding_A", ".lora_embedding_B")
# What PEFT may add to a LoRA that two thin products do not compute
_PLAIN = {"use_dora": False, "bias": "none", "lora_bias": False, "modules_to_save": [], "alpha_pattern": {}}


def is_adapter(directory: Path) -> bool:
    """A PEFT directory: an adapter without the model that it is added to."""
    return (directory / CONFIG).is_file() and not (directory / "config.json").is_file()


def read(name: str) -> tuple[Path, Manifest | None]:
    """The directory of an adapter, its files checked, and its manifest where it has one."""
    directory = Path(name).expanduser()
    if not (directory / CONFIG).is_file():
        raise NotThere(
            f"adapter '{name}': no {CONFIG} there. Expected a local PEFT directory with {CONFIG} and {WEIGHTS}."
        )
    if not (directory / WEIGHTS).is_file():
        pickled = (directory / "adapter_model.bin").is_file()
        also = ", only adapter_model.bin, a pickle, which is never loaded" if pickled else ""
        raise UserError(
            f"adapter '{name}': no {WEIGHTS} there{also}. Save the adapter with save_pretrained(..., "
            "safe_serialization=True)."
        )
    kind = _config(directory).get("peft_type")
    if kind != "LORA":
        raise UserError(f"{directory / CONFIG}: key 'peft_type' is {kind!r}; expected 'LORA', which can be merged.")
    has_manifest = (directory / artifact.MANIFEST).is_file()
    return directory, artifact.verify(directory) if has_manifest else None


def check_base(directory: Path, manifest: Manifest | None, found: Identity) -> None:
    """UserError where the adapter says that it was trained on another model than the one found."""
    if manifest and "target" in manifest.binds:
        binding.check(directory, manifest.binds["target"], found)
        return
    expected = manifest.base["name"] if manifest else _config(directory).get("base_model_name_or_path") or ""
    there, here = binding.repository(expected), binding.repository(found["name"])
    if there and here and there.lower() != here.lower():
        raise UserError(
            f"adapter '{directory}' was trained on '{expected}', not on '{found['name']}' "
            f"(key '{'base.name' if manifest else 'base_model_name_or_path'}' of "
            f"{artifact.MANIFEST if manifest else CONFIG}). Set the model's name to '{expected}', or take an adapter "
            f"of '{found['name']}'."
        )


def merge(model: PreTrainedModel, directory: Path, name: str) -> PreTrainedModel:
    """The model with the adapter's weights added to its own, in its own dtype. `name` is for the errors."""
    from peft import PeftModel  # seconds to import, and most runs have no adapter

    keys = _check_shapes(model, directory, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers in a way that will be gone one day
            adapted = PeftModel.from_pretrained(model, str(directory), torch_device=str(model.device))
    except (ValueError, RuntimeError, TypeError) as error:  # modules that it targets are not there, unknown options
        raise UserError(f"adapter '{directory}' does not load into '{name}': {error}") from error
    injected = {key.replace(".default", "") for key, _ in adapted.named_parameters() if _is_lora(key)}
    if missing := sorted(injected - keys):
        raise UserError(
            f"adapter '{directory}' does not fit '{name}'{_trained_on(directory)}: it has no weights for "
            f"{missing[0]}, which its {CONFIG} asks for. Was it trained on fewer layers?"
        )
    merged = adapted.merge_and_unload()
    sources.say(f"adapter {directory} merged into {name}")
    return merged.requires_grad_(True)  # PEFT froze it


def factors(directory: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """Path of a module -> A [rank, in], B [out, rank] times its scale, float32: for an adapter that is not merged.

    UserError where there is more in it than low-rank parts of linear modules.
    """
    config = _config(directory)
    for key, plain in _PLAIN.items():
        if config.get(key) not in (None, plain):
            raise UserError(
                f"{directory / CONFIG}: key '{key}' is {config[key]!r}; expected {plain!r} of an adapter that is used "
                "beside others over one model. Merge it instead: name it in a model's `adapters`."
            )
    try:
        stored = load_file(directory / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{directory / WEIGHTS}: not a readable safetensors file ({error}).") from None
    alpha, found = config.get("lora_alpha"), {}
    for key, a in stored.items():
        path, is_first, rest = key.removeprefix(_PREFIX).partition(".lora_A.")
        b = stored.get(f"{_PREFIX}{path}.lora_B.{rest}")
        fits = b is not None and a.dim() == b.dim() == 2 and a.shape[0] == b.shape[1]
        if is_first and fits and isinstance(alpha, (int, float)):
            scale = alpha / (len(a) ** 0.5 if config.get("use_rslora") else len(a))
            found[path] = (a.float(), b.float() * scale)
    if not found or len(stored) != 2 * len(found):
        raise UserError(
            f"{directory / WEIGHTS}: expected pairs of a linear module's lora_A and lora_B that fit, and a number as "
            f"key 'lora_alpha' of {CONFIG}. It holds {len(stored)} tensors, {2 * len(found)} of them in such pairs."
        )
    return found


def _check_shapes(model: PreTrainedModel, directory: Path, name: str) -> set[str]:
    """The keys of the adapter's weights; UserError for the first that has no place in the model."""
    modules = {path: module for path, module in model.named_modules() if isinstance(module, _MODULES)}
    try:
        with safe_open(directory / WEIGHTS, framework="pt") as file:
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys() if _is_lora(key)}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError(f"{directory / WEIGHTS}: not a readable safetensors file ({error}).") from None
    if not shapes:
        raise UserError(f"{directory / WEIGHTS}: no LoRA weights in this file.")
    for key, shape in sorted(shapes.items()):
        path = key.removeprefix(_PREFIX).partition(".lora_")[0]
        module = modules.get(path)
        fits = module is not None and shape[_model_side(key)] == _width(module, key)
        if not fits:
            has = f"{path} has {_width(module, key)} there" if module is not None else f"there is no {path}"
            raise UserError(
                f"adapter '{directory}' does not fit '{name}'{_trained_on(directory)}: {key} has shape "
                f"{list(shape)}, and {has}. Use it with the model that it was trained on."
            )
    return set(shapes)


def _is_lora(key: str) -> bool:
    return any(mark in key for mark in _MARKS)


def _model_side(key: str) -> int:
    """Which dimension of a LoRA factor is the model's; the other one is the rank. A is [rank, in], B [out, rank]."""
    return 1 if ".lora_A." in key or ".lora_embedding_A" in key else 0


def _width(module: nn.Module, key: str) -> int:
    """How wide the module is on the side of this factor."""
    out, into = module.weight.shape if isinstance(module, nn.Linear) else reversed(module.weight.shape)
    return into if _model_side(key) else out  # Conv1D and embeddings are stored [in, out]


def _trained_on(directory: Path) -> str:
    base = _config(directory).get("base_model_name_or_path")
    return f" (it was trained on '{base}')" if base else ""


def _config(directory: Path) -> dict[str, object]:
    try:
        config = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{directory / CONFIG}: not readable as JSON ({error}).") from None
    if not isinstance(config, dict):
        raise UserError(f"{directory / CONFIG}: expected a JSON object, got a {type(config).__name__}.")
    return config
