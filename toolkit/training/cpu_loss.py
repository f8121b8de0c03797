"""SFTTrainer for CPUs: the head is computed for answer tokens only.

TRL's fused loss skips ignored positions on Triton devices; elsewhere it scores all of them, and computes the logits
again in the backward pass. With a vocabulary of 49,152 the head is a fifth of a 135M model, and most of a pruned one.
"""

from typing import Any

import torch
from torch.nn import functional
from transformers import PreTrainedModel
from trl import SFTTrainer

from toolkit.training.data import IGNORED


class AnswerSFTTrainer(SFTTrainer):
    """The loss is TRL's, the mean over answer tokens, computed where these tokens are."""

    def compute_loss(
        self,
        model: PreTrainedModel,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        labels = inputs["labels"][:, 1:]  # [B, T-1]: what the token at each position should be followed by
        kept = (labels != IGNORED).any(dim=0).nonzero().squeeze(1)  # [P] positions that some row has a label at
        rest = {key: value for key, value in inputs.items() if key != "labels"}
        outputs = model(**rest, logits_to_keep=kept, use_cache=False)  # logits [B, P, V]
        wanted = labels[:, kept].flatten()
        loss = functional.cross_entropy(outputs.logits.flatten(0, 1), wanted, ignore_index=IGNORED, reduction="sum")
        if num_items_in_batch is None:
            loss = loss / (wanted != IGNORED).sum()
        else:  # counted over all processes, whose gradients are averaged afterwards
            loss = loss * self.accelerator.num_processes / num_items_in_batch
        return (loss, outputs) if return_outputs else loss
