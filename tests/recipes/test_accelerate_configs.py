"""The launch configurations are read by accelerate itself, and its plugins for sharded training are built from them."""

import os

import pytest
import torch
from accelerate import FullyShardedDataParallelPlugin
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DeepSpeedPlugin, DistributedType, is_deepspeed_available
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env, prepare_simple_launcher_cmd_env
from torch.distributed.fsdp import MixedPrecisionPolicy

from tests.recipes.shipped import CONFIGS, ROOT
from toolkit.hub import ModelConfig
from toolkit.training import processes

TYPES = {
    "cpu": DistributedType.MULTI_GPU,  # with use_cpu: of gloo, not NCCL
    "single_gpu": DistributedType.NO,
    "ddp": DistributedType.MULTI_GPU,
    "fsdp2": DistributedType.FSDP,
    "deepspeed_zero3": DistributedType.DEEPSPEED,
    "multi_node": DistributedType.MULTI_GPU,
}


def test_all_of_them_are_known():
    assert {path.stem for path in CONFIGS} == set(TYPES)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_accelerate_reads_it(path):
    read = load_config_from_file(str(path))
    assert path.read_text().startswith("# ")  # when to take it
    assert read.distributed_type == TYPES[path.stem]
    assert read.use_cpu is (path.stem == "cpu")
    assert read.mixed_precision == ("no" if path.stem == "cpu" else "bf16")
    assert (read.num_machines > 1) is (path.stem == "multi_node")
    assert read.num_processes % read.num_machines == 0
    assert bool(read.fsdp_config) is (path.stem == "fsdp2")
    assert bool(read.deepspeed_config) is (path.stem == "deepspeed_zero3")


def launch(name, monkeypatch):
    """What `accelerate launch` with this file puts into the environment of a training program."""
    words = ["--config_file", str(ROOT / f"accelerate_configs/{name}.yaml"), "--main_process_port", "0"]
    arguments, defaults, _ = _validate_launch_command(launch_command_parser().parse_args([*words, "train/lora.py"]))
    if arguments.use_deepspeed:
        arguments.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)
        _, environment = prepare_deepspeed_cmd_env(arguments)
    elif arguments.num_processes > 1:
        environment = prepare_multi_gpu_env(arguments)
    else:
        _, environment = prepare_simple_launcher_cmd_env(arguments)
    for key, value in environment.items():
        if os.environ.get(key) != value:
            monkeypatch.setenv(key, value)
    return arguments


def test_fsdp2_shares_out_and_saves_whole(monkeypatch):
    arguments = launch("fsdp2", monkeypatch)
    assert arguments.use_fsdp
    plugin = FullyShardedDataParallelPlugin()
    plugin.set_mixed_precision(arguments.mixed_precision)
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward is True
    assert plugin.state_dict_type.name == "FULL_STATE_DICT"  # Trainer.save_model writes nothing otherwise
    assert plugin.cpu_ram_efficient_loading is False  # all processes need the weights: they answer with them
    assert plugin.activation_checkpointing is False  # Trainer refuses both this and its own
    assert isinstance(plugin.mixed_precision_policy, MixedPrecisionPolicy)
    assert plugin.mixed_precision_policy.param_dtype == torch.bfloat16


def test_zero3_gathers_on_save(monkeypatch):
    arguments = launch("deepspeed_zero3", monkeypatch)
    assert arguments.use_deepspeed
    plugin = DeepSpeedPlugin()
    plugin.set_mixed_precision(arguments.mixed_precision)
    assert plugin.zero_stage == 3
    assert plugin.zero3_init_flag is False
    assert plugin.deepspeed_config["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] is True
    assert plugin.deepspeed_config["bf16"]["enabled"] is True
    assert plugin.deepspeed_config["gradient_accumulation_steps"] == "auto"  # the recipe's train.accumulate


@pytest.mark.skipif(not is_deepspeed_available(), reason="deepspeed is not installed (it needs a GPU's toolchain)")
def test_deepspeed_knows_the_configuration(monkeypatch):
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    launch("deepspeed_zero3", monkeypatch)
    zero = DeepSpeedPlugin().deepspeed_config["zero_optimization"]
    assert DeepSpeedZeroConfig(**zero).gather_16bit_weights_on_model_save


@pytest.mark.parametrize("name", ["fsdp2", "deepspeed_zero3"])
def test_a_model_that_is_shared_out_is_read_into_main_memory(name, monkeypatch):
    launch(name, monkeypatch)
    monkeypatch.setattr(processes, "on_gpu", lambda: True)
    target = ModelConfig("smollm2-135m", adapters=["a"])
    read = processes.placed(ModelConfig("target", dtype="float16"), target)
    assert (read.name, read.adapters, read.device, read.dtype) == ("smollm2-135m", ["a"], "cpu", "float16")
    assert processes.placed(ModelConfig("smollm2-135m"), None).dtype == "bfloat16"


def test_any_other_model_is_read_onto_the_gpu_of_the_process(monkeypatch):
    launch("ddp", monkeypatch)
    monkeypatch.setattr(processes, "on_gpu", lambda: True)
    model = ModelConfig("smollm2-135m")
    assert processes.placed(model, None) == model


def test_use_cpu_is_heeded_where_there_is_a_gpu(monkeypatch):
    launch("cpu", monkeypatch)  # one process; of several, accelerate tells none of use_cpu
    asked = {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(processes, "PartialState", lambda **options: asked.update(options))
    processes.joined()
    assert asked["cpu"] is True
