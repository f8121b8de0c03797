"""What a training run says while it trains: a line at each log step, with the time left.

Without the notes of the libraries on their own affairs, and without their dictionaries and bars, of which there is one
for every small pass over the rows.
"""

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import datasets
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from toolkit import sources


@contextmanager
def libraries() -> Iterator[None]:
    """While a trainer is made: no bars over the rows, no warnings on how TRL calls transformers."""
    datasets.disable_progress_bars()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*gradient_checkpointing. is deprecated", FutureWarning)
        yield
    datasets.enable_progress_bars()


def say_lines(trainer: Trainer) -> None:
    """Lines in place of the dictionaries that a Trainer without a bar prints."""
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_Lines())


class _Lines(TrainerCallback):
    """Training loss and rate at a log step, held-out loss at an evaluation."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        self.start, self.first = time.monotonic(), state.global_step

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float],
        **more: Any,  # model, optimizer and the like: callbacks are handed everything
    ) -> None:
        if not state.is_world_process_zero:
            return
        place = f"step {state.global_step}/{state.max_steps}"
        if "eval_loss" in logs:
            sources.say(f"{place}: held-out loss {logs['eval_loss']:.4f}")
        elif "loss" in logs:
            pace = (time.monotonic() - self.start) / max(1, state.global_step - self.first)
            left = pace * (state.max_steps - state.global_step)
            sources.say(f"{place}: loss {logs['loss']:.4f}, rate {logs['learning_rate']:.2e}, {left:.0f} s left")
