"""Runs what a model has written, and says whether it is right: pass, wrong, timeout, crash or refused.

A program runs in a process of its own, contained as the machine allows (`_contained`): on Linux in namespaces that
leave it no network, no other process, no file but the standard library and one empty directory, and no privileges;
everywhere under limits of processor time, memory, processes, file sizes and wall time, with a cleared environment.

No verdict comes out of a process that runs model code. Tests that call functions run in a second contained process,
with stand-ins that ask the program for its answers, one call at a time (`_inside/checker.py`); answers are plain data.
For programs that read standard input and write standard output, this process compares what they have written. So a
program never sees what is expected of it, and whatever it does to its own process (`os._exit(0)`, patched built-ins,
an `__eq__` that always agrees, exit hooks, forged messages) it only ever changes its own answers. Two limits of that:
a function that changes its arguments in place does so unseen, and what a test hands over has to be plain data (or a
plain type).
"""

import json
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import IO, Literal

from toolkit.tasks import _contained, _output
from toolkit.tasks._contained import CRASHED, OVERTIME, UNCONTAINED, Limits, ended, process

Name = Literal["pass", "wrong", "timeout", "crash", "refused"]

LONGEST = 1 << 18  # characters of a program
WORKERS = 8  # programs at a time, where there are as many processors


@dataclass(frozen=True)
class Asserts:
    """Tests as code. context: what they need beside the program; names: what they take from the program."""

    names: tuple[str, ...]
    tests: str
    context: str = ""


@dataclass(frozen=True)
class Cases:
    """Pairs of standard input and the standard output that is expected."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Job:
    """A program and its tests. prelude: code that runs before the program's own, in the same module."""

    code: str
    tests: Asserts | Cases
    prelude: str = ""
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Verdict:
    name: Name
    detail: str = ""


def judge(jobs: Sequence[Job]) -> list[Verdict]:
    """All of them, several at a time; every process is gone when this returns."""
    if not jobs:
        return []
    _contained.containment()  # once, before there are several at a time
    with ThreadPoolExecutor(min(WORKERS, os.cpu_count() or 1, len(jobs))) as pool:
        return list(pool.map(_judge, jobs))


def _judge(job: Job) -> Verdict:
    if not job.code.strip() or "\0" in job.code or len(job.code) > LONGEST:
        return Verdict("refused", f"expected a program of 1 to {LONGEST} characters, without NUL")
    return _asserted(job, job.tests) if isinstance(job.tests, Asserts) else _written(job, job.tests)


def _asserted(job: Job, tests: Asserts) -> Verdict:
    """The checker asks, the program answers; what counts is what the checker says."""
    with ExitStack() as stack:
        ours: list[int] = []
        stack.callback(lambda: [os.close(end) for end in ours])
        asked, ask = _pipe(ours)
        answers, answer = _pipe(ours)
        said, say = _pipe(ours)
        program = {"role": "program", "code": job.code, "prelude": job.prelude, "channel": [asked, answer]}
        checker = {"role": "checker", **asdict(tests), "channel": [answers, ask], "verdict": say}
        running = stack.enter_context(process(program, job.limits, pass_fds=(asked, answer)))
        judging = stack.enter_context(process(checker, job.limits, pass_fds=(answers, ask, say)))
        for end in (asked, ask, answers, answer, say):  # else nobody would see the others' ends
            os.close(end)
            ours.remove(end)
        code = ended(judging)
        text = os.read(said, 1 << 16)
        if code != 0 or not text:
            return _verdict(code or CRASHED, "the tests did not come to an end")
        name, detail = json.loads(text)
        if name == "gone":
            return _verdict(ended(running) or CRASHED, detail)
        return Verdict(name, detail)


def _written(job: Job, tests: Cases) -> Verdict:
    """A fresh process for each input, until one output is not the expected one."""
    for number, (given, expected) in enumerate(tests.pairs, start=1):
        with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            stdin.write(given.encode())
            stdin.seek(0)
            spec = {"role": "script", "code": job.code, "prelude": job.prelude}
            with process(spec, job.limits, stdin=stdin, stdout=stdout, stderr=stderr) as running:
                code = ended(running)
            if code:
                return _verdict(code, f"test {number}: {_last_line(stderr)}")
            stdout.seek(0)
            if not _output.same(stdout.read().decode("utf-8", "replace"), expected):
                return Verdict("wrong", f"test {number}")
    return Verdict("pass") if tests.pairs else Verdict("refused", "there is no test")


def _verdict(code: int, detail: str) -> Verdict:
    """Of a process that did not end well. OSError where it was never run: that is no word on the program."""
    if code == UNCONTAINED:
        raise OSError("this machine could contain programs before, and now not this one: is it out of memory?")
    return Verdict("timeout" if code == OVERTIME else "crash", detail)


def _last_line(stderr: IO[bytes]) -> str:
    size = stderr.seek(0, os.SEEK_END)
    stderr.seek(max(0, size - 1000))
    return (stderr.read().decode("utf-8", "replace").strip().splitlines() or [""])[-1][:200]


def _pipe(ours: list[int]) -> tuple[int, int]:
    ends = os.pipe()
    ours += ends
    return ends
