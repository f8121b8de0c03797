"""The processes of `accelerate launch`: who this one is, what it takes of the work, and how it waits for the others.

They share a disk, a store of counters, and barriers. Blocks of prompts are taken one by one, whoever is free the next,
so that a slow process holds nobody up. Waiting costs nothing and may take hours, while the first process times the
speed set. One that dies is noticed by its closed connections, by its launcher, or by its silence (see pulse), and then
all end and say which one it was.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from functools import cache
from types import FrameType
from typing import NoReturn, Protocol, TypeVar

import torch
from torch import distributed

from toolkit import sources
from toolkit.errors import UserError
from toolkit.evaluation.pulse import Pulse

T = TypeVar("T")
_PATIENCE = timedelta(days=1)  # with a process that is alive: so long may the first one time while others wait
_ON_CPU = "--config_file accelerate_configs/cpu.yaml"


class Ranks(Protocol):
    """The processes of this run, as one of them sees them."""

    count: int
    place: int  # which of them this is
    first: bool  # the one that opens the directory, times, merges and reports

    def use_threads(self, asked: int | None) -> None:
        """CPU threads of the whole machine; None: as many as torch finds."""

    def together(self) -> AbstractContextManager[None]:
        """While all of them decode, they share the threads; else the first one has them all."""

    def agreed(self, said: str) -> str:
        """-> what the first one says, once all are here."""

    def wait(self) -> None:
        """Until all are here."""

    def take(self, jobs: Sequence[T]) -> Iterator[T]:
        """Those of the jobs, which are the same for all, that fall to this one."""

    def done(self, count: int) -> int:
        """So many prompts more -> those of all processes, since they last waited for each other."""


class Alone:
    """`python -m eval`: nothing of torch.distributed is touched."""

    count, place, first = 1, 0, True

    def __init__(self, launched: bool) -> None:
        self._launched, self._done, self._own = launched, 0, torch.get_num_threads()

    def use_threads(self, asked: int | None) -> None:
        wanted = asked or (found_threads() if self._launched else self._own)  # a launcher sets another number
        if wanted != torch.get_num_threads():
            torch.set_num_threads(wanted)

    @contextmanager
    def together(self) -> Iterator[None]:
        yield

    def agreed(self, said: str) -> str:
        return said

    def wait(self) -> None:
        self._done = 0

    def take(self, jobs: Sequence[T]) -> Iterator[T]:
        return iter(jobs)

    def done(self, count: int) -> int:
        self._done += count
        return self._done


class Many:
    """One of several."""

    def __init__(self, local: int) -> None:
        """local: how many of them are on this machine."""
        self._store, self.place, self.count = next(distributed.rendezvous("env://"))
        distributed.init_process_group(
            "gloo", store=self._store, rank=self.place, world_size=self.count, timeout=_PATIENCE
        )
        self.first, self._local, self._phase, self._begun = self.place == 0, local, 0, False
        self._pulse = Pulse(self._store, self.place, self.count, self._silent)

    def use_threads(self, asked: int | None) -> None:
        self._all = asked or found_threads()
        self._share = max(1, self._all // self._local)
        torch.set_num_threads(self._all if self.first else self._share)

    @contextmanager
    def together(self) -> Iterator[None]:
        torch.set_num_threads(self._share)
        yield
        torch.set_num_threads(self._all if self.first else self._share)

    def agreed(self, said: str) -> str:
        key = f"eval said {self._phase}"
        if self.first:
            self._store.set(key, said)
        self._meet()
        with self._with(0):
            return self._store.get(key).decode()

    def wait(self) -> None:
        self._meet()
        if not self._begun:  # who ended before had said why: a mistake in the recipe, a directory that is another's
            self._begun = True
            signal.signal(signal.SIGTERM, self._terminated)

    def take(self, jobs: Sequence[T]) -> Iterator[T]:
        while (place := self._add("taken", 1) - 1) < len(jobs):
            yield jobs[place]

    def done(self, count: int) -> int:
        return self._add("done", count)

    def _meet(self) -> None:
        """All are here. The first one hears of each by itself, so it knows who is missing."""
        word = torch.zeros(1)
        if self.first:
            for say_or_hear in (distributed.recv, distributed.send):
                for place in range(1, self.count):
                    with self._with(place):
                        say_or_hear(word, place)
        else:
            with self._with(0):
                distributed.send(word, 0)
                distributed.recv(word, 0)
        self._phase += 1

    def _add(self, counter: str, count: int) -> int:
        with self._with(0):  # who keeps the store
            return self._store.add(f"eval {counter} {self._phase}", count)

    @contextmanager
    def _with(self, place: int) -> Iterator[None]:
        """What takes another process, too: this one ends where that has."""
        try:
            with self._pulse.listening():
                yield
        except RuntimeError as error:  # a connection was closed
            self._end(f"process {place} has ended", str(error).partition(". ")[0])

    def _terminated(self, number: int, frame: FrameType | None) -> NoReturn:
        self._end("another one has ended", "said by the launcher")

    def _end(self, what: str, why: str) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self._say(what, why)
        sys.exit(1)

    def _silent(self, place: int) -> NoReturn:
        """Not in the thread that waits, which nothing else would end. It has nothing under way that could be lost."""
        self._say(f"process {place} has gone silent", "its machine or its network is down, or it was stopped")
        os._exit(1)

    def _say(self, what: str, why: str) -> None:
        if self._begun:
            sources.say(
                f"process {self.place} of {self.count} ends, as {what} ({why}). What was decoded is "
                "kept: the same command goes on from it, with any number of processes."
            )


@cache
def joined() -> Ranks:
    """This process among those that were launched with it, which it waits for. UserError where they do not fit here."""
    environment = os.environ
    launched = "ACCELERATE_MIXED_PRECISION" in environment or "LOCAL_RANK" in environment
    if launched and environment.get("ACCELERATE_USE_CPU", "").lower() == "true":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    if int(environment.get("WORLD_SIZE", "1")) == 1 or "LOCAL_RANK" not in environment:
        if launched and "MASTER_PORT" in environment and "LOCAL_RANK" not in environment:
            # accelerate names a port where it was asked for several, though without a GPU it starts one
            sources.say(f"warning: one process was launched. For several without GPUs add {_ON_CPU}")
        return Alone(launched)
    here, local = int(environment["LOCAL_RANK"]), int(environment["LOCAL_WORLD_SIZE"])
    if gpus := torch.cuda.device_count():
        if local > gpus:
            raise UserError(
                f"accelerate launch: {local} processes on a machine of {gpus} GPU(s); expected one a GPU at most. Give "
                f"--num_processes {gpus}, or {_ON_CPU}."
            )
        torch.cuda.set_device(here)
    ranks = Many(local)
    if ranks.first:
        sources.say(
            f"{ranks.count} processes share the quality set; the first one alone times the speed set, and the others "
            "wait. If one of them ends early all do: the same command then goes on, with any number of processes."
        )
    return ranks


@cache
def found_threads() -> int:
    """The threads that torch takes where no launcher has set OMP_NUM_THREADS, which it reads when it is loaded."""
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    command = [sys.executable, "-c", "import torch; print(torch.get_num_threads())"]
    return int(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
