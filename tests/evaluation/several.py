"""A run on several processes without a launcher: forks of a server that has imported everything, so they start at once.

They are told who they are as torchrun tells it; the first one holds the store.
"""

import multiprocessing
import os
import socket
import sys

from toolkit import errors
from toolkit.evaluation.run import main

_PRELOADED = ["toolkit.evaluation.run", "toolkit.tasks.jsonl", "tests.evaluation.conftest"]


def begin(arguments, count, run=main, said=os.devnull):
    """-> the processes. `arguments`: of all of them, or a list of each one's. run: what each does with its own.

    said: the file that their stderr is appended to; that of this process is not theirs.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    each = arguments if isinstance(arguments[0], list) else [arguments] * count
    port = _free_port()
    started = [context.Process(target=_one, args=(run, each[i], i, count, port, said)) for i in range(count)]
    for process in started:
        process.start()
    return started


def end(processes, patience=60):
    """-> their exit codes, once all have ended."""
    for process in processes:
        process.join(patience)
    alive = [process for process in processes if process.is_alive()]
    for process in alive:
        process.kill()
    assert not alive, f"{len(alive)} of {len(processes)} processes hang"
    return [process.exitcode for process in processes]


def finish(arguments, count, run=main):
    """To its good end."""
    assert end(begin(arguments, count, run)) == [0] * count


def _one(run, arguments, place, count, port, said):
    with open(said, "a") as file:  # noqa: PTH123
        os.dup2(file.fileno(), 2)
    errors._PATIENCE = 1.0
    if count > 1:
        told = {"RANK": place, "LOCAL_RANK": place, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
        told |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ |= {key: str(value) for key, value in told.items()}
    sys.exit(run(arguments))


def _free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
