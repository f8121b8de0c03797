"""Which processes of the sandbox are still there."""

import subprocess
import time

from toolkit.tasks import _contained


def left_behind():
    """Processes of the sandbox that are still there."""
    command = ["ps", "-ww", "-eo", "pid,args"]  # ww: else lines end at a terminal's width, before what is looked for
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if f"{_contained.INSIDE} " in line and " -S " in line]


def wait_until(true, seconds=60):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)
