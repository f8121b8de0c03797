"""A LoRA by supervised fine-tuning: TRL's SFTTrainer and PEFT on our rows, ending in an artifact that was tried.

The run's checkpoints live beside OUT, in `.runs`: killed, the same command goes on from the last whole one, to the same
weights. The artifact appears in OUT whole or not at all; where it is there already, nothing is done.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset
from peft import LoraConfig, TaskType
from safetensors import SafetensorError
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer

from toolkit import hub, sources
from toolkit.errors import UserError
from toolkit.loading import identify
from toolkit.training import data as rows
from toolkit.training import finish, rundir
from toolkit.training.recipe import LoraRecipe


def run(recipe: LoraRecipe, command: dict[str, Any]) -> Path:
    """Train, keep the best adapter by held-out loss, write and try the artifact -> its directory.

    `command` says how to run this again: `path` of the recipe and `overrides`.
    """
    state = PartialState()
    out, where = Path(recipe.out), command["path"]
    if finish.finished(out, recipe):
        _say(state, f"{out} is there already; delete it to train again")
        return out
    with state.main_process_first():  # a model that has to be fetched or converted is so once
        model, tokenizer = hub.load_hf(recipe.model, recipe.target)
        bound = identify(recipe.target or recipe.model)
        loaded = rows.load(recipe.data, tokenizer, recipe.train.seed, where)
        described = loaded.describe()
        work = rundir.open_run(out, {"recipe": asdict(recipe), "data": described["fingerprint"], "on": bound}, where)
    dropped = ", ".join(f"{count} {reason}" for reason, count in loaded.dropped.items()) or "none"
    _say(
        state,
        f"{len(loaded.train)} rows ({described['tokens']} tokens, loss on {described['answer_tokens']}), "
        f"{len(loaded.valid)} held out; dropped: {dropped}; {state.num_processes} process(es)",
    )
    trainer = _trainer(recipe, model, tokenizer, loaded, work)
    _train(trainer, work)
    adapter = work / "adapter"
    trainer.save_model(str(adapter))  # all processes: shards are gathered here
    state.wait_for_everyone()
    if state.is_main_process:
        figures = {"data": described, "training": rundir.figures(trainer, state.num_processes)}
        finish.lora(recipe, command, adapter, bound, figures)
        rundir.close(work)
    state.wait_for_everyone()
    return out


def _say(state: PartialState, message: str) -> None:
    if state.is_main_process:
        sources.say(message)


def _train(trainer: SFTTrainer, work: Path) -> None:
    """An end for want of disk space leaves the earlier checkpoints as they were."""
    last = rundir.last_checkpoint(work)
    if last:
        sources.say(f"going on from {last.name}")
    try:
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    except (OSError, SafetensorError, RuntimeError) as error:
        if not rundir.is_full(error):
            raise
        raise UserError(
            f"{work}: a checkpoint could not be written ({error}). Earlier checkpoints are intact: free some space and "
            "run the same command again, which goes on from the last one."
        ) from error


def _trainer(
    recipe: LoraRecipe, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, loaded: rows.Data, work: Path
) -> SFTTrainer:
    settings, lora = recipe.train, recipe.lora
    cuda = torch.cuda.is_available()
    arguments = SFTConfig(
        output_dir=str(work),
        num_train_epochs=settings.epochs,
        learning_rate=settings.lr,
        lr_scheduler_type=settings.schedule,
        warmup_steps=settings.warmup,  # below 1: a share of all steps
        per_device_train_batch_size=settings.batch,
        per_device_eval_batch_size=settings.batch,
        gradient_accumulation_steps=settings.accumulate,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.clip,
        optim=settings.optimizer,
        packing=settings.packing,
        max_length=recipe.data.max_length,
        gradient_checkpointing=settings.checkpointing,
        bf16=cuda,
        use_cpu=not cuda,
        dataloader_pin_memory=cuda,
        train_sampling_strategy="random" if settings.packing else "group_by_length",
        eval_strategy="steps",
        eval_steps=settings.eval_every,
        save_strategy="steps",
        save_steps=settings.eval_every,
        save_total_limit=2,  # the best one and the last one
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        logging_steps=max(1, settings.eval_every // 5),
        report_to=rundir.logger(settings.logger),
        seed=settings.seed,
        data_seed=settings.seed,
    )
    adapter = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets),
        bias="none",
        task_type=TaskType.CAUSAL_LM,
    )
    try:
        return SFTTrainer(
            model=model,
            args=arguments,
            train_dataset=_dataset(loaded.train),
            eval_dataset=_dataset(loaded.valid),
            processing_class=tokenizer,
            peft_config=adapter,
        )
    except ValueError as error:
        if "target modules" not in str(error).lower():
            raise
        raise UserError(f"key 'lora.targets': {error}") from error


def _dataset(chosen: Sequence[rows.Row]) -> Dataset:
    return Dataset.from_dict(
        {"input_ids": [list(row.input_ids) for row in chosen], "labels": [list(row.labels) for row in chosen]}
    )
