"""The student of a distillation: which of its parameters are trained, and how what was trained is stored.

A LoRA is stored as PEFT does (`lora`), a copy of some of the target's layers without what it shares with the target
(`delta`), any other model whole (`model`). A vocabulary of its own goes beside each of them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from safetensors.torch import save as serialised
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from toolkit import adapters, delta, registry, trim
from toolkit.engine.vocabulary import Vocabulary
from toolkit.errors import UserError
from toolkit.files import write_atomic

STORED = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_DEFAULT = ".default"  # what PEFT calls its only adapter, in parameter names


@dataclass
class StudentLora:
    """Train an adapter, and nothing else. Without dropout: a run that was killed goes on to the same weights."""

    rank: int = 16
    alpha: int = 32  # the update is scaled by alpha / rank
    targets: list[str] = field(
        default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )


class Student:
    """A causal LM in training.

    vocabulary: the target ids of its logits; `trimmed`: its head has only their rows, `inherited`: as it was loaded.
    """

    def __init__(
        self, model: PreTrainedModel, vocabulary: Vocabulary, *, trimmed: bool, inherited: bool = False
    ) -> None:
        self.width = model.get_input_embeddings().num_embeddings
        if trimmed and not inherited:
            trim.trim(model, vocabulary)
        self.model, self.vocabulary, self.trimmed, self._inherited = model, vocabulary, trimmed, inherited
        self.module: nn.Module = model  # what is trained: the model, or PEFT's wrapper of it
        self.shares: list[str] = []
        refuse_scaled_head(model)

    def freeze(self, names: Sequence[str], where: str) -> None:
        """Leave these modules as they are; a name is the end of a module's path, as in `embed_tokens`."""
        model = self.model.requires_grad_(True)
        paths = [path for path, module in model.named_modules() if path and any(True for _ in module.parameters())]
        for name in names:
            found = [path for path in paths if f".{path}".endswith(f".{name}")]
            if not found:
                known = sorted({path.rpartition(".")[2] for path in paths})
                raise UserError(
                    f"{where}: key 'frozen': the student has no module '{name}'.{registry.nearest(name, known)} "
                    f"There are: {registry.listed(known)}."
                )
            for path in found:
                model.get_submodule(path).requires_grad_(False)
            self.shares += found
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise UserError(f"{where}: key 'frozen': nothing is left to train. Freeze less.")

    def adapt(self, lora: StudentLora, where: str) -> None:
        """Train a LoRA of the model."""
        config = LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            target_modules=list(lora.targets),
            bias="none",
            task_type=TaskType.CAUSAL_LM,
        )
        try:
            self.module = get_peft_model(self.model, config)
        except ValueError as error:  # no module of these names
            raise UserError(f"{where}: key 'lora.targets': {error}") from error

    def write(
        self, kind: str, directory: Path, stored: str, base_name: str, tokenizer: PreTrainedTokenizerBase
    ) -> None:
        """The artifact's files. base_name: for PEFT's config, where the kind is `lora`."""
        if self.trimmed and not (self._inherited and kind == "lora"):  # a base that is loaded brings its own
            trim.save(directory, self.vocabulary, self.width)
        if kind == "lora":
            _write_lora(self.module, directory, STORED[stored], base_name)
        elif kind == delta.KIND:
            delta.save(self.model, self.shares, directory, STORED[stored])
        else:
            disable_progress_bar()
            self.model.to(STORED[stored]).save_pretrained(directory)
            tokenizer.save_pretrained(directory)


def _write_lora(module: PeftModel, directory: Path, dtype: torch.dtype, base_name: str) -> None:
    weights = {
        name.replace(_DEFAULT, ""): parameter.detach().to("cpu", dtype).contiguous()
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    }
    config = module.peft_config["default"]
    config.inference_mode = True
    config.save_pretrained(directory)
    path = directory / adapters.CONFIG
    settings = json.loads(path.read_text()) | {"base_model_name_or_path": base_name}
    settings["target_modules"].sort()  # a set to PEFT, in another order in each process: the file is in the fingerprint
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
    write_atomic(directory / adapters.WEIGHTS, serialised(weights, {"format": "pt"}))


@torch.no_grad()
def refuse_scaled_head(model: PreTrainedModel) -> None:
    """Some models cap or scale what their head gives; the loss is taken of the head's output as it is."""
    ids = torch.tensor([[1, 2, 3]], device=model.device)
    states = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
    made = model.get_output_embeddings()(states)
    if not torch.allclose(made, model(input_ids=ids, use_cache=False).logits, rtol=1e-2, atol=1e-2):
        raise UserError(
            f"student {type(model).__name__}: its logits are not its head's output alone (capped or scaled, as "
            "Gemma-2's are); distilling it is not supported."
        )
