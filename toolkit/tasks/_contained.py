"""Starts a process as far away from everything as this machine allows, and ends it.

Best are namespaces of its own (Linux; `_inside/contain.py` makes them), then bubblewrap's, which some machines allow
when they do not allow others; else there are only the limits that hold everywhere.
"""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal

from toolkit.errors import UserError

Containment = Literal["namespaces", "bubblewrap", "limits"]

INSIDE = Path(__file__).parent / "_inside"
CRASHED, UNCONTAINED, OVERTIME = 1, 70, 124  # exit codes of _inside
_PYTHON = os.path.realpath(sys.executable)  # of a virtual environment: the one that it was made with
_PATIENCE = 600.0  # seconds
_LIBRARIES = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/nix/store", "/etc/ld.so.cache")
_UNCONTAINED_HERE = (
    "warning: this machine allows neither namespaces nor bubblewrap, so programs that models write run under limits "
    "of time, memory and file sizes alone (on Linux without sockets, too). NOT contained: all files and processes of "
    "the user that they run as, and elsewhere the network. Run evaluations of code in a container or a virtual machine "
    "without anything of value."
)


@dataclass(frozen=True)
class Limits:
    """Of one process."""

    cpu_seconds: int = 10
    wall_seconds: float = 20.0  # for programs that wait; longer ones on a busy machine, which must change no verdict
    memory: int = 1 << 30  # bytes
    processes: int = 4  # threads count; each may take `memory`
    file_bytes: int = 16 << 20  # of a file, of standard output, and of the directory in memory


@functools.cache
def containment() -> Containment:
    """The best that works here. Says so once, where that is not much; UserError where it is nothing."""
    kinds: list[Containment] = ["namespaces"] if sys.platform == "linux" else []
    kinds += ["bubblewrap"] if shutil.which("bwrap") else []
    for kind in kinds:
        if _works(kind):
            return kind
    if not _works("limits"):
        raise UserError(
            "code that a model has written cannot be run here: there are no namespaces, and this is root, whose Python "
            f"({sys.base_prefix}) others cannot read. Run as another user, or in a container that allows namespaces"
        )
    print(_UNCONTAINED_HERE, file=sys.stderr, flush=True)
    return "limits"


def _works(kind: Containment) -> bool:
    """Late is no answer: a busy machine must not end up with less containment than it has."""
    with process({"role": "probe"}, Limits(), kind) as probe:
        code = ended(probe)
    if code == OVERTIME:
        raise UserError("an empty program did not come to its end: the machine is too busy to run code")
    return code == 0


@contextmanager
def process(
    spec: dict[str, Any],
    limits: Limits,
    kind: Containment | None = None,
    pass_fds: tuple[int, ...] = (),
    stdin: IO[bytes] | int = subprocess.DEVNULL,
    stdout: IO[bytes] | int = subprocess.DEVNULL,
    stderr: IO[bytes] | int = subprocess.DEVNULL,
) -> Iterator[subprocess.Popen[bytes]]:
    """A contained process, for as long as the block lasts. kind: None for the best that works here."""
    kind = kind or containment()
    with ExitStack() as stack:
        directory = "/box"
        if kind == "limits":
            directory = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
            Path(directory).chmod(0o777)
        file = stack.enter_context(tempfile.TemporaryFile())
        parent = 0 if kind == "bubblewrap" else os.getpid()
        place = {"containment": kind, "directory": directory, "parent": parent, "pipes": pass_fds}
        file.write(json.dumps({**spec, **place, "limits": asdict(limits)}).encode())
        file.seek(0)
        inside = "/inside" if kind == "bubblewrap" else str(INSIDE)
        # no site packages, no path of the user's; a fixed hash seed, so that a program says the same every time
        command = [_PYTHON, "-s", "-S", "-P", "-X", "utf8", inside, str(file.fileno())]
        started = subprocess.Popen(
            [*(_bubblewrap(limits.file_bytes) if kind == "bubblewrap" else []), *command],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=(*pass_fds, file.fileno()),
            env={"PYTHONHASHSEED": "0"},
            cwd="/",
            start_new_session=True,
        )
        try:
            yield started
        finally:
            _end(started, everything=kind == "limits")


def _bubblewrap(room: int) -> list[str]:
    """`room`: bytes that fit into the empty directory."""
    shown = [sys.base_prefix, sys.base_exec_prefix, _PYTHON, str(Path(os.__file__).parent), *_LIBRARIES]
    binds = [part for path in dict.fromkeys(shown) if Path(path).exists() for part in ("--ro-bind", path, path)]
    box = ["--size", str(room), "--tmpfs", "/box"]
    apart = ["--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"]
    return [
        *("bwrap", *apart, "--setenv", "PYTHONHASHSEED", "0", *binds, "--ro-bind", str(INSIDE), "/inside"),
        *("--dev", "/dev", *box, "--"),
    ]


def ended(process: subprocess.Popen[bytes]) -> int:
    """Its exit code. It keeps to its limits itself; only where it is stopped is this patience needed."""
    try:
        return process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        return OVERTIME


def _end(process: subprocess.Popen[bytes], everything: bool) -> None:
    """It ends what it watches when it is told to end. everything: what that one has left behind, too."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        everything = True
    if everything:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
