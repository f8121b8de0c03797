"""A LoRA recipe over a few sums for a tiny model: a whole run in seconds, in this process or as a user starts it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
from safetensors.torch import load_file

from toolkit.training import main

ROOT = Path(__file__).parents[2]
TINY = "tiny-random:llama"
ROWS = 40  # of which a fifth is held out: 8 steps an epoch, 48 in all
EVERY, STEPS = 8, 48


def sums(count=ROWS):
    """Rows to train on."""
    return [
        {"prompt": f"What is {a} + {b}?", "response": f"{a} + {b} = {a + b} #### {a + b}", "answer": str(a + b)}
        for a, b in ((i, i % 7) for i in range(count))
    ]


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


class Training:
    """A recipe in a directory, its data and its output."""

    def __init__(self, directory, **changes):
        self.directory, self.recipe, self.out = directory, directory / "sums.yaml", directory / "out" / "lora"
        self.data, self.work = directory / "sums.jsonl", directory / "out" / ".runs" / "lora"
        write_rows(self.data, sums())
        recipe = {
            "model": TINY,
            "data": {"tasks": [{"type": "jsonl", "path": str(self.data)}], "max_length": 96, "valid": 0.2},
            "lora": {"rank": 8, "alpha": 16, "stored": "float32"},  # compared to the last bits
            "train": {"epochs": 6, "lr": 0.01, "batch": 4, "eval_every": EVERY},
            "out": str(self.out),
        }
        self.recipe.write_text(json.dumps(recipe | changes))  # YAML is a superset of JSON

    def run(self, *overrides):
        """In this process -> exit code."""
        return main.lora([str(self.recipe), *overrides])

    def launch(self, *overrides, processes=1):
        """As a user starts it, to its end -> what it said."""
        return finish(self.start(*overrides, processes=processes))

    def start(self, *overrides, processes=1):
        return start("train/lora.py", self.recipe, *overrides, processes=processes)

    def manifest(self):
        return json.loads((self.out / "manifest.json").read_text())

    def weights(self):
        return load_file(self.out / "adapter_model.safetensors")

    def checkpoints(self):
        """The steps that have a whole checkpoint."""
        return sorted(int(path.parent.name.split("-")[1]) for path in self.work.glob("checkpoint-*/trainer_state.json"))


def start(program, recipe, *overrides, processes=1):
    """`accelerate launch ...` on one or two processes."""
    accelerate = Path(sys.executable).with_name("accelerate")
    command = [accelerate, "launch", "--config_file", "accelerate_configs/cpu.yaml", "--main_process_port", "0"]
    command += ["--num_processes", str(processes), program, str(recipe), *overrides]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def finish(process):
    """What it said, once it has ended well."""
    _, said = process.communicate(timeout=400)
    assert process.returncode == 0, said
    return said


def kill_when(process, reached):
    """SIGKILL for the launcher and all that it started (each in a session of its own), once `reached()`."""
    deadline = time.monotonic() + 400
    while not reached():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.002)
    launcher = psutil.Process(process.pid)
    family = [*launcher.children(recursive=True), launcher]
    for one in family:
        one.kill()
    process.communicate()
    psutil.wait_procs(family)


def furthest(one, other):
    """The largest difference between two sets of weights, relative to the largest weight."""
    assert one.keys() == other.keys()
    largest = max(weight.abs().max() for weight in one.values())
    return float(max((one[key] - other[key]).abs().max() for key in one) / largest)
