"""TRL's DistillationTrainer on recorded answers: what our distillation is measured beside.

As of TRL 1.16 that trainer is always on-policy: a dataset has prompts, and the student samples the completions. Here
they are handed to it instead; its loss (a generalised JSD in tiles, a mean over completion tokens; no T^2, no top-k),
its forwards and its loop are untouched. Student and teacher must have equally many tokens; the teacher is frozen.
GKDTrainer, which takes recorded completions with lmbda = 0, is experimental and computes the logits of prompts too.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl import DistillationConfig, DistillationTrainer

from toolkit.training import quiet
from toolkit.training.fit import FitConfig
from toolkit.training.texts import Text

BETAS = {"forward_kl": 0.0, "reverse_kl": 1.0}  # what TRL calls our losses


class OffPolicyTrainer(DistillationTrainer):
    """Rows bring their completions."""

    def _prepare_inputs(self, generation_batch: list[dict[str, list[int]]]) -> dict[str, Tensor]:
        """What TRL makes of a batch once it has sampled: prompts padded on the left, completions on the right."""
        prompts, answers = (
            [torch.tensor(row[key]) for row in generation_batch] for key in ("prompt_ids", "completion_ids")
        )
        made = {
            "prompt_ids": pad_sequence(prompts, batch_first=True, padding_side="left"),
            "prompt_mask": pad_sequence([torch.ones_like(p) for p in prompts], batch_first=True, padding_side="left"),
            "completion_ids": pad_sequence(answers, batch_first=True),
            "completion_mask": pad_sequence([torch.ones_like(a) for a in answers], batch_first=True),
            "num_items_in_batch": torch.tensor(float(sum(map(len, answers)))),
        }
        return {key: tensor.to(self.accelerator.device) for key, tensor in made.items()}


class Stopwatch(TrainerCallback):
    """Seconds between the beginnings and ends of the updates: without start-up, logs and checkpoints."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._begun = 0.0

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        self._begun = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        self.seconds += time.monotonic() - self._begun


def run(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    ordered: Sequence[Text],
    settings: FitConfig,
    loss: str,
    directory: Path,
) -> float:
    """Train the student once over the texts in this order, a batch an update -> seconds of its updates."""
    rows = Dataset.from_dict(
        {
            "prompt": [""] * len(ordered),  # TRL asks for the column
            "prompt_ids": [list(text.prompt) for text in ordered],
            "completion_ids": [list(text.answer) for text in ordered],
        }
    )
    watch = Stopwatch()
    on_gpu = student.device.type == "cuda"
    with quiet.libraries():
        trainer = OffPolicyTrainer(
            model=student,
            teacher_model=teacher,
            args=arguments(settings, loss, directory, on_gpu),
            train_dataset=rows,
            processing_class=tokenizer,
            callbacks=[watch],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return watch.seconds


def arguments(settings: FitConfig, loss: str, directory: Path, on_gpu: bool) -> DistillationConfig:
    """What our loop does with the same settings, in TRL's words."""
    said: dict[str, Any] = {
        "output_dir": str(directory),
        "num_train_epochs": 1,
        "per_device_train_batch_size": settings.batch,
        "learning_rate": settings.lr,
        "lr_scheduler_type": "constant",
        "adam_beta1": settings.betas[0],
        "adam_beta2": settings.betas[1],
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.clip,
    }
    return DistillationConfig(
        **said,
        beta=BETAS[loss],
        shuffle_dataset=False,
        gradient_checkpointing=False,
        bf16=on_gpu,
        use_cpu=not on_gpu,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=settings.seed,
    )
