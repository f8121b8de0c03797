"""A LoRA by supervised fine-tuning: TRL's SFTTrainer and PEFT on our rows, ending in an artifact that was tried.

The run's checkpoints live beside OUT, in `.runs`: killed, the same command goes on from the last whole one, to the same
weights. The artifact appears in OUT whole or not at all; where it is there already, nothing is done.
"""

import gc
import importlib.util
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset
from peft import LoraConfig, TaskType
from safetensors import SafetensorError
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.integrations import unset_hf_deepspeed_config
from transformers.pytorch_utils import Conv1D
from transformers.training_args import OptimizerNames
from trl import SFTConfig, SFTTrainer

from toolkit import hub, registry, sources
from toolkit.errors import UserError
from toolkit.loading import read_tokenizer
from toolkit.training import data as rows
from toolkit.training import finish, processes, quiet, rundir
from toolkit.training.cpu_loss import AnswerSFTTrainer
from toolkit.training.recipe import LoraRecipe


def run(recipe: LoraRecipe, command: dict[str, Any]) -> Path:
    """Train, keep the best adapter by held-out loss, write and try the artifact -> its directory.

    `command` says how to run this again: `recipe.command()`.
    """
    state = processes.joined()
    out, where = Path(recipe.out), command["path"]
    if finish.finished(out, recipe):
        _say(state, f"{out} is there already; delete it to train again")
        return out
    check_optimizer(recipe.train.optimizer, where)
    rundir.logger(recipe.train.logger, out)  # before anything is loaded
    with state.main_process_first():  # a model that has to be fetched or converted is so once
        model, own = hub.load_hf(processes.placed(recipe.model, recipe.target), recipe.target)
        tokenizer = read_tokenizer(recipe.target or recipe.model)  # a draft reads its target's prompts, dates included
        _check_speaks(recipe, own, tokenizer)
        _check_targets(recipe.lora.targets, model, where)
        binds = finish.bound(recipe)
        loaded = rows.load(recipe.data, tokenizer, recipe.train.seed, where)
        described = loaded.describe()
        identity = {"recipe": asdict(recipe), "data": described["fingerprint"], "on": binds}
        work = rundir.open_run(out, identity | {"processes": state.num_processes}, where)
    dropped = ", ".join(f"{count} {reason}" for reason, count in loaded.dropped.items()) or "none"
    _say(
        state,
        f"{len(loaded.train)} rows ({described['tokens']} tokens, loss on {described['answer_tokens']}), "
        f"{len(loaded.valid)} held out; dropped: {dropped}; {state.num_processes} process(es)",
    )
    with quiet.libraries():
        trainer = _trainer(recipe, model, tokenizer, loaded, work)
    quiet.say_lines(trainer)
    with rundir.alone(work, state.is_main_process):
        adapter = _train(trainer, work, state)
        unset_hf_deepspeed_config()  # else ZeRO-3 waits for all processes whenever one of them loads a model
        figures = {"data": described, "training": rundir.figures(trainer, state.num_processes)}
        del trainer, model  # what was saved is loaded again: there may be no room for both
        gc.collect()
        torch.cuda.empty_cache()
        if state.is_main_process:
            finish.lora(recipe, command, adapter, binds, figures)
            rundir.close(work)
    state.wait_for_everyone()
    return out


def _check_speaks(recipe: LoraRecipe, own: PreTrainedTokenizerBase, target: PreTrainedTokenizerBase) -> None:
    """Before hours of training: a draft whose ids mean other text could never be used."""
    if recipe.target is not None:
        speakers = [
            (model.name, tokenizer.get_vocab(), len(tokenizer))
            for model, tokenizer in ((recipe.target, target), (recipe.model, own))
        ]
        hub.check_compatible(*speakers)


def _say(state: PartialState, message: str) -> None:
    if state.is_main_process:
        sources.say(message)


def _train(trainer: SFTTrainer, work: Path, state: PartialState) -> Path:
    """The directory of the best adapter. An end for want of disk space leaves the earlier checkpoints as they were."""
    last, adapter = rundir.last_checkpoint(work, state.num_processes), work / "adapter"
    if last:
        _say(state, f"going on from {last.name}")
    try:
        trainer.train(resume_from_checkpoint=str(last) if last else None)
        trainer.save_model(str(adapter))  # all processes: shards are gathered here
        state.wait_for_everyone()
    except (OSError, SafetensorError, RuntimeError) as error:
        if not rundir.is_full(error):
            raise
        raise UserError(
            f"{work}: a checkpoint could not be written ({error}). Earlier checkpoints are intact: free some space and "
            "run the same command again, which goes on from the last one."
        ) from error
    return adapter


def arguments(recipe: LoraRecipe, work: Path) -> SFTConfig:
    """What the trainer is told, here and under any of `accelerate_configs`."""
    settings, gpu = recipe.train, processes.on_gpu()
    return SFTConfig(
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
        bf16=gpu,
        use_cpu=not gpu,
        dataloader_pin_memory=gpu,
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
        report_to=rundir.logger(settings.logger, Path(recipe.out)),
        run_name=Path(recipe.out).name,
        project="draftsmith",
        seed=settings.seed,
        data_seed=settings.seed,
        ddp_find_unused_parameters=False,  # every adapter weight takes part in every forward
        disable_tqdm=True,
    )


def adapter_config(recipe: LoraRecipe) -> LoraConfig:
    """The adapter as PEFT knows it."""
    lora = recipe.lora
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets),
        bias="none",
        task_type=TaskType.CAUSAL_LM,
    )


def check_optimizer(name: str, where: Path | str) -> None:
    """UserError where the optimizer is unknown or cannot be had here, before a model is loaded."""
    known = [optimizer.value for optimizer in OptimizerNames]
    if name not in known:
        raise UserError(f"{where}: key 'train.optimizer' is '{name}'.{registry.nearest(name, known)} See transformers.")
    if not any(part in name for part in ("8bit", "bnb", "paged")):
        return
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            f"{where}: key 'train.optimizer': {name} needs bitsandbytes: `pip install bitsandbytes`, or "
            "train.optimizer=adamw_torch. (The optimizer's state of a LoRA is small.)"
        )
    if processes.fully_sharded():
        raise UserError(
            f"{where}: key 'train.optimizer': {name} does not work on the parameters of FSDP. Set "
            "train.optimizer=adamw_torch, or launch with accelerate_configs/deepspeed_zero3.yaml."
        )


def _check_targets(targets: Sequence[str], model: PreTrainedModel, where: Path | str) -> None:
    """UserError for a name that no module has; PEFT passes it over as long as one of the others fits."""
    modules = [name for name, module in model.named_modules() if isinstance(module, (nn.Linear, Conv1D, nn.Embedding))]
    known = sorted({name.rpartition(".")[2] for name in modules})
    for target in targets:
        if not any(f".{name}".endswith(f".{target}") for name in modules):
            raise UserError(
                f"{where}: key 'lora.targets': no module of the model is called '{target}'."
                f"{registry.nearest(target, known)} There are: {registry.listed(known)}."
            )


def _trainer(
    recipe: LoraRecipe, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, loaded: rows.Data, work: Path
) -> SFTTrainer:
    kind = SFTTrainer if processes.on_gpu() else AnswerSFTTrainer
    return kind(
        model=model,
        args=arguments(recipe, work),
        train_dataset=_dataset(loaded.train),
        eval_dataset=_dataset(loaded.valid),
        processing_class=tokenizer,
        peft_config=adapter_config(recipe),
    )


def _dataset(chosen: Sequence[rows.Row]) -> Dataset:
    return Dataset.from_dict(
        {"input_ids": [list(row.input_ids) for row in chosen], "labels": [list(row.labels) for row in chosen]}
    )
