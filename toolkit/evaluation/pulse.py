"""Are the processes of a run alive? Each one beats in their store, and who waits for the others listens to them.

A process that is killed closes its connections, and who waits for it is told at once. A machine that loses its power or
its network closes nothing: that its beats cease is all there is to notice. Who beats is waited for however long it
takes, as timing a speed set takes hours.
"""

import atexit
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

from torch.distributed import Store

BEAT = 10.0  # seconds between two beats
MISSED = 60  # beats, by this process's own, after which another one counts as gone: busy machines are late


class Pulse:
    """Of this process. lost: what is done, in a thread, when another one is gone that this one waits for."""

    def __init__(self, store: Store, place: int, count: int, lost: Callable[[int], None]) -> None:
        self._store, self._place, self._lost = store, place, lost
        self._missed = dict.fromkeys(range(count), 0)  # by place: own beats since its last one
        self._heard = dict.fromkeys(range(count), 0)  # by place: beats so far
        self._listening, self._ended = False, Event()
        watch = Thread(target=self._watch, daemon=True)
        watch.start()
        atexit.register(watch.join)
        atexit.register(self._ended.set)  # registered last, called first

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While this process waits for others."""
        self._listening = True
        try:
            yield
        finally:
            self._listening = False

    def _watch(self) -> None:
        beat = None
        while not self._ended.wait(BEAT):
            if beat is not None and beat.is_alive():  # the store is the first process's, which does not answer
                self._missed[0] += 1
            elif self._missed[0] < MISSED:
                beat = Thread(target=self._beat, daemon=True)
                beat.start()
            gone = [place for place, missed in self._missed.items() if missed >= MISSED]
            if gone and self._listening:
                self._lost(gone[0])

    def _beat(self) -> None:
        try:
            for place, before in self._heard.items():
                beats = self._store.add(f"eval beats of {place}", int(place == self._place))
                self._missed[place] = 0 if beats > before else self._missed[place] + 1
                self._heard[place] = beats
        except RuntimeError:  # the store has gone with the first process
            self._missed[0] = MISSED
