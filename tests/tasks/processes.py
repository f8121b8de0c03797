"""Which processes of the sandbox are still there."""

import os
import subprocess
import time

from toolkit.tasks import _contained


def left_behind():
    """Those of this test's process, and those whose parent is gone; not those of tests that run beside it."""
    command = [
        "ps",
        "-ww",
        "-eo",
        "pid,ppid,args",
    ]  # ww: else lines end at a terminal's width, before what is looked for
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[1:]
    args = {int(pid): rest[0] if rest else "" for pid, _, *rest in (line.split(None, 2) for line in listed)}
    parents = {int(pid): int(parent) for pid, parent, *_ in (line.split(None, 2) for line in listed)}
    inside = {pid for pid, one in args.items() if f"{_contained.INSIDE} " in one and " -S " in one}

    def suspect(pid):
        above = [pid]
        while above[-1] in parents:
            above.append(parents[above[-1]])
        starter = next(one for one in above if one not in inside)
        return os.getpid() in above or "python" not in args.get(
            starter, ""
        )  # an orphan's is init, or what stands for it

    return [f"{pid} {args[pid]}" for pid in sorted(inside) if suspect(pid)]


def wait_until(true, seconds=60):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)
