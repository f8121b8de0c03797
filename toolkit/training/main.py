"""The command lines of `train/`: recipe and overrides in, exit code out.

Run under `accelerate launch` every process comes through here; only the first one speaks. Exit codes: 2 for what the
user can mend, 130 for Ctrl-C. `accelerate launch` turns both into its own 1, after a report on the ended process.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable

from toolkit.errors import UserError

PATIENCE = 20.0  # seconds in which the first process says what all of them found


def lora(argv: list[str]) -> int:
    """`train/lora.py RECIPE [key=value ...]`."""
    path, overrides = _arguments("train/lora.py", "Train a LoRA adapter.", argv)
    return _report(lambda: _lora(path, overrides))


def cot_cod(argv: list[str]) -> int:
    """`train/cot_cod.py RECIPE [key=value ...]`."""
    path, overrides = _arguments("train/cot_cod.py", "Target, its answers, draft: the three stages.", argv)
    return _report(lambda: _cot_cod(path, overrides))


def _cot_cod(path: str, overrides: list[str]) -> None:
    from toolkit.training import pipeline

    pipeline.run(pipeline.load(path, overrides), path)


def _lora(path: str, overrides: list[str]) -> None:
    from toolkit.training import lora as training
    from toolkit.training import recipe

    training.run(recipe.load(path, overrides), recipe.command(path, overrides))


def _arguments(program: str, does: str, argv: list[str]) -> tuple[str, list[str]]:
    parser = argparse.ArgumentParser(prog=program, description=does)
    parser.add_argument("recipe", help="a YAML file; its first line is the command that runs it")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as in train.epochs=1 out=checkpoints/mine")
    arguments = parser.parse_args(argv)
    return arguments.recipe, arguments.overrides


def _report(work: Callable[[], None]) -> int:
    try:
        work()
    except UserError as error:
        if os.environ.get("RANK", "0") != "0":
            time.sleep(PATIENCE)  # the launcher ends all when one has ended: not before the first one has spoken
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0
