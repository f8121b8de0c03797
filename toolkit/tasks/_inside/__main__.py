"""What the sandbox starts: `python THIS_DIRECTORY FD`, where FD holds a JSON object that says what to do.

This process goes where it is told to stay, forks the one that runs the program (or the tests), waits for it, and ends
it when it is told to end. Its exit code is the one thing that is believed of the run; UNCONTAINED is never a word of
the program's, as the program only starts behind a sign of its own process that it is contained.
"""

import json
import os
import select
import signal
import sys
from typing import Any

import calls
import checker
import contain
import plain
import program

ENDED, CRASHED, UNCONTAINED, OVERTIME = 0, 1, 70, 124
TICK = 0.1  # seconds

sys.path.pop(0)  # this directory: nobody is to find it


def main() -> int:
    with open(int(sys.argv[1]), encoding="utf-8") as file:  # noqa: PTH123
        job = json.load(file)
    contain.go_first()
    try:
        if job["containment"] == "namespaces":
            contain.leave()
    except OSError as error:
        print(error, file=sys.stderr)
        return UNCONTAINED
    contain.die_with_parent(signal.SIGTERM)
    if job["parent"] not in (0, os.getppid()):
        return CRASHED  # nobody waits for a verdict any more
    awake, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    contained, sign = os.pipe()
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    signal.signal(signal.SIGCHLD, lambda *_: None)
    child = os.fork()
    if child:
        os.close(sign)
        return _watch(child, job, awake, contained, told)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    for end in (awake, wake, contained):
        os.close(end)
    _prepare(job)
    os.write(sign, b"1")
    os.close(sign)
    _run(job)
    return ENDED


def _watch(child: int, job: dict[str, Any], awake: int, contained: int, told: list[int]) -> int:
    """-> exit code. Its copies of the pipes are closed, so that their ends are seen.

    Wall time is counted in its own short waits, which take longer on a busy machine: else that would change verdicts.
    A wait that a signal ends counts as a whole one, so that signals do not put the end off.
    """
    for end in job["pipes"]:
        os.close(end)
    left = job["limits"]["wall_seconds"]
    while left > 0 and not told:
        if select.select([awake], [], [], TICK)[0]:
            os.read(awake, 64)
        left -= TICK
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            if not os.read(contained, 1):
                return UNCONTAINED
            return _code(status, (usage.ru_utime + usage.ru_stime) / job["limits"]["cpu_seconds"])
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if told and job["containment"] == "limits":
        os.killpg(0, signal.SIGKILL)  # what the program has started is in this group; nobody waits for a code
    return OVERTIME


def _code(status: int, used: float) -> int:
    """used: processor time, of what is allowed.

    Who has used it all up is killed by the kernel's count of ticks, and `used` is some way off that on a busy machine.
    """
    if os.WIFSIGNALED(status):
        killed = os.WTERMSIG(status) in (signal.SIGKILL, signal.SIGXCPU)
        return OVERTIME if killed and used >= 0.5 else CRASHED
    return ENDED if os.WEXITSTATUS(status) == ENDED else CRASHED


def _prepare(job: dict[str, Any]) -> None:
    """Contained, or ended: what follows is never run otherwise."""
    try:
        if job["containment"] == "namespaces":
            os.setsid()  # a signal to its process group must not reach out of the namespace
            contain.enter(job["limits"]["file_bytes"])
        elif job["containment"] == "limits" and os.geteuid() == 0:
            contain.become_nobody()
        os.chdir(job["directory"])
        contain.die_with_parent(signal.SIGKILL)
        contain.limit(job["limits"])
        if sys.platform == "linux":
            calls.refuse()
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(UNCONTAINED)
    os.environ.clear()


def _run(job: dict[str, Any]) -> None:
    match job["role"]:
        case "probe":
            import decimal, random  # noqa: E401, F401, I001  is the standard library still there?
        case "script":
            program.script(job["prelude"], job["code"])
        case "program":
            program.serve(job["prelude"], job["code"], plain.Channel(*job["channel"]))
        case "checker":
            contain.hide()
            verdict, detail = checker.check(job["context"], job["names"], job["tests"], plain.Channel(*job["channel"]))
            os.write(job["verdict"], json.dumps([verdict, detail[:300]]).encode())
            os._exit(ENDED)  # a pipe's buffer holds it, and no thread of the tests delays it


sys.exit(main())
