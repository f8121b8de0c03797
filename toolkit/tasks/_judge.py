"""`math-verify` behind a process that can be killed: sympy may hang on what a language model writes.

Its own time limit is a signal, which works in the main thread only and never interrupts a long big-integer
operation. Here one worker process answers JSON lines; late means killed, restarted, and "not equal". Works from
any thread and any process; the worker ends by itself when its parent is gone.
"""

import atexit
import json
import logging
import os
import select
import subprocess
import sys
import threading

SECONDS = 5.0  # for one comparison; a typical one takes 10 ms
STARTUP_SECONDS = 120.0  # importing sympy on a busy machine

_log = logging.getLogger(__name__)
_lock = threading.Lock()
_worker: subprocess.Popen[bytes] | None = None
_owner = 0  # the process that started the worker: after a fork, the child must not talk into the parent's pipe


def equal(gold: str, given: str) -> bool:
    """Does `math-verify` call the two equal? False when it takes longer than `SECONDS`."""
    with _lock:
        worker = _running()
        worker.stdin.write(json.dumps([gold, given]).encode() + b"\n")
        worker.stdin.flush()
        answer = _answer(worker, SECONDS)
        if not answer:
            _log.warning("no verdict on %r against %r within %g s: counted as not equal", given, gold, SECONDS)
            close()
        return answer == b"true\n"


def close() -> None:
    """End the worker; the next comparison starts another."""
    global _worker
    if _worker is not None and _owner == os.getpid():
        _worker.kill()
        _worker.communicate()
    _worker = None


def _running() -> subprocess.Popen[bytes]:
    global _worker, _owner
    if _worker is not None and _owner == os.getpid() and _worker.poll() is None:
        return _worker
    close()
    _owner = os.getpid()
    _worker = subprocess.Popen(
        [sys.executable, "-m", "toolkit.tasks._judge_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},  # finds this very `toolkit`
        start_new_session=True,  # Ctrl-C is for the program, which then closes the worker
    )
    if _answer(_worker, STARTUP_SECONDS) != b"ready\n":
        close()
        raise RuntimeError("the math-verify worker did not start; its error is above")
    return _worker


def _answer(worker: subprocess.Popen[bytes], seconds: float) -> bytes:
    """One line of the worker, b"" when it is late or has died."""
    ready, _, _ = select.select([worker.stdout], [], [], seconds)
    return worker.stdout.readline() if ready else b""


atexit.register(close)
