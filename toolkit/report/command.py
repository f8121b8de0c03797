"""`draftsmith report DIR... [--out DIR]`: finished runs as one page to publish, with tables and pictures."""

import argparse
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

LINE_EVERY = 10.0  # seconds
OUT = Path("results/report")


def main(argv: Sequence[str], does: str) -> int:
    """`does`: what its help begins with -> the exit code."""
    parser = argparse.ArgumentParser(prog="draftsmith report", description=does)
    parser.add_argument("directories", nargs="+", type=Path, metavar="DIR", help="an eval's output directory")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help=f"where to write ({OUT}; of a single directory, DIR/report)"
    )
    given = parser.parse_args(argv)
    paths: list[Path] = given.directories
    write(paths, given.out or (paths[0] / "report" if len(paths) == 1 else OUT))
    return 0


def write(paths: Sequence[Path], out: Path) -> None:
    """The report of these runs, and what was written on the screen. UserError where it cannot be written there."""
    from toolkit.report import content, writing  # numpy, and what reads records and draws

    writing.check(out)  # before anything takes long
    with _progress() as say:
        say(f"reading {', '.join(map(str, paths))}" if len(paths) < 4 else f"reading {len(paths)} directories")
        page = content.page(paths)
        say(f"writing {len(page.sections)} sections")
        written = writing.write(page, out, say)
    for line in _told(written, out):
        print(line)


def _told(written: Sequence[Path], out: Path) -> list[str]:
    """What was written, the page first."""
    [page] = [path for path in written if path.suffix == ".html"]
    size = sum(path.stat().st_size for path in written)
    counts = Counter(path.suffix.removeprefix(".").upper() for path in written if path.parent != out)
    beside = [path.name for path in written if path.parent == out and path != page]
    beside += [f"{n} {kind}" for kind, n in sorted(counts.items())]
    return [
        f"{page}: {page.stat().st_size / 2**10:,.0f} KiB, opens without a network",
        f"In {out} beside it: {', '.join(beside)} ({size / 2**20:.1f} MiB together)",
    ]


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Says what is being done: on a terminal in one line that is written over, elsewhere a line every ten seconds."""
    terminal, last = sys.stderr.isatty(), -math.inf

    def say(what: str) -> None:
        nonlocal last
        if terminal:
            print(f"\r\033[K{what} ...", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - last > LINE_EVERY:
            last = time.monotonic()
            print(f"report: {what}", file=sys.stderr, flush=True)

    try:
        yield say
    finally:
        if terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
