"""Where a run keeps what it needs to go on: `.runs/NAME` beside OUT, with the recipe and data it belongs to.

What is there is for this program's own next start. transformers writes its optimizer state with torch.save and reads
it with `weights_only`, which runs no code; what leaves the run is safetensors and JSON.
"""

import errno
import importlib.util
import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import Trainer

from toolkit.errors import UserError
from toolkit.files import lock

RUNS = ".runs"
LOGS = Path("results/logs")
_IDENTITY = "identity.json"
_STATE = "trainer_state.json"  # the last that transformers' first process writes; others may be at theirs still


def open_run(out: Path, identity: dict[str, Any], where: Path | str) -> Path:
    """The run's directory; UserError where it was begun with another recipe or other data."""
    work = out.parent / RUNS / out.name
    path = work / _IDENTITY
    wanted = json.loads(json.dumps(identity))
    if path.is_file():
        found = json.loads(path.read_text())
        differing = _differing(found, wanted)
        if differing:
            raise UserError(
                f"{where}: {work} holds a run that was begun with other values of {', '.join(differing)}. "
                f"Set out=DIR for a run of its own, or delete {work} to begin anew."
            )
        return work
    try:
        work.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(wanted, indent=2))
        partial.rename(path)
    except OSError as error:
        raise UserError(f"{work}: cannot be written ({error}). Set out=DIR elsewhere.") from error
    return work


@contextmanager
def alone(work: Path, first: bool) -> Iterator[None]:
    """Held by the first process. A launcher that is killed may leave processes behind, which go on writing."""
    if not first:
        yield
        return
    with lock(work / "lock", f"{work}: another process trains there; wait for it, end it, or set out=DIR."):
        yield


def last_checkpoint(work: Path, processes: int) -> Path | None:
    """The newest whole checkpoint; one that was cut short by a kill or a full disk is passed over."""
    found = sorted(work.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    return next((path for path in found if _whole(path, processes)), None)


def _whole(checkpoint: Path, processes: int) -> bool:
    """Its first process had ended it, and each has its random state there (torch.save's files are archives)."""
    try:
        json.loads((checkpoint / _STATE).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return False
    drawn = [f"rng_state_{place}.pth" for place in range(processes)] if processes > 1 else ["rng_state.pth"]
    return all(zipfile.is_zipfile(checkpoint / name) for name in drawn)


def close(work: Path) -> None:
    """The artifact is in place: what led to it is dropped."""
    shutil.rmtree(work)


def is_full(error: BaseException) -> bool:
    """Whether an error, or what caused it, is a disk without space (or quota) left. torch and safetensors wrap it."""
    codes = {errno.ENOSPC, errno.EDQUOT}
    chain = [error, error.__cause__, error.__context__]
    if any(isinstance(one, OSError) and one.errno in codes for one in chain):
        return True
    return any(text in str(error) for text in ("No space left", "os error 28", "file write failed"))


def figures(trainer: Trainer, processes: int) -> dict[str, Any]:
    """What a manifest says of the run; the loss curve included, because it costs nothing and explains much."""
    state = trainer.state
    return {
        "steps": state.global_step,
        "epochs": state.epoch,
        "best_eval_loss": state.best_metric,
        "best_step": state.best_global_step,
        "world_size": processes,
        "dtype": str(trainer.model.get_base_model().dtype).removeprefix("torch."),  # what to merge in
        "eval_loss": [[row["step"], row["eval_loss"]] for row in state.log_history if "eval_loss" in row],
    }


def logger(name: str, out: Path) -> list[str]:
    """`report_to` of transformers; UserError where the logger is not installed."""
    if name == "none":
        return []
    if importlib.util.find_spec(name) is None:
        raise UserError(f"key 'train.logger': {name} is not installed. `pip install {name}`, or train.logger=none.")
    if name == "tensorboard":  # transformers would write beside the checkpoints, which go when the run has ended
        os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(LOGS / out.name))
    return [name]


def _differing(found: Any, wanted: Any, key: str = "") -> list[str]:
    """The dotted keys at which two trees differ."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        keys = sorted(found.keys() | wanted.keys())
        return [d for k in keys for d in _differing(found.get(k), wanted.get(k), f"{key}.{k}" if key else k)]
    return [] if found == wanted else [key]
