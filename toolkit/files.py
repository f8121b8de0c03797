"""Writing so that a reader never sees half a file: beside it first, then renamed over it. And one writer at a time."""

import ctypes
import fcntl
import json
import math
import os
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from toolkit.errors import UserError


def write_atomic(path: Path, content: bytes) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError:  # a full disk: half a file must not take up what is left of it
        beside.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: object) -> None:
    write_atomic(path, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def swap(one: Path, other: Path) -> bool:
    """Two paths trade places in one step, so that neither is ever missing. False where the system has no such step."""
    try:
        exchange = ctypes.CDLL(None).renameat2  # Linux
    except AttributeError:
        return False
    here, flag = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return exchange(here, os.fsencode(one), here, os.fsencode(other), flag) == 0


def finite(value: object) -> object:
    """The same with null for NaN and infinity, which JSON has not: one of them makes the whole file unreadable."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return value


def lock(path: Path, taken: str) -> TextIO:
    """The lock file at `path`, held until it is closed, however the process ends. UserError(taken): another has it."""
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise UserError(taken) from None
    return file


class OutputDirectory:
    """`with` it, one process writes in a directory: made, locked, then read by `_open`. UserError when it cannot."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def _open(self) -> None:
        """What is to be known of the directory before anything is written there. UserError where it is another's."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = lock(
                self.path / ".lock",
                f"out={self.path}: another process writes there; wait, or choose another out=DIR.",
            )
        except OSError as error:
            raise UserError(f"out={self.path}: cannot be written to ({error}); choose another out=DIR.") from error
        try:
            self._open()
        except UserError:
            self._lock.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.close()
