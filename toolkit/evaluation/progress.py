"""A progress line on stderr: items, rate, time left. A bar on a terminal, a line every ten seconds elsewhere."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_EVERY = 10.0  # seconds


class Bar:
    """`with Bar("speed", total) as bar: bar.advance(3, "ngram")`. Not shown: where another process shows it."""

    def __init__(self, name: str, total: int, *, shown: bool = True) -> None:
        self.name, self.total, self.done, self.shown = name, total, 0, shown
        self.start = self.last = time.monotonic()
        self.progress: Progress | None = None
        if shown and sys.stderr.isatty():
            self.progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self.task = self.progress.add_task(name, total=total, rate="")

    def __enter__(self) -> "Bar":
        if self.progress:
            self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.progress:
            self.progress.stop()
        elif self.shown and self.done:
            self._line("")

    def advance(self, items: int, what: str) -> None:
        self.reach(self.done + items, what)

    def reach(self, done: int, what: str) -> None:
        """So many of the total, whoever did them."""
        self.done = done
        now = time.monotonic()
        if self.progress:
            rate = f"{self.done / (now - self.start):.2f} prompts/s"
            self.progress.update(self.task, completed=self.done, description=f"{self.name}: {what}", rate=rate)
        elif self.shown and now - self.last > LINE_EVERY:
            self.last = now
            self._line(f", {what}")

    def _line(self, what: str) -> None:
        spent = time.monotonic() - self.start
        left = spent / self.done * (self.total - self.done)
        print(
            f"{self.name}: {self.done}/{self.total} prompts, {self.done / spent:.2f}/s, {left:.0f} s left{what}",
            file=sys.stderr,
            flush=True,
        )
