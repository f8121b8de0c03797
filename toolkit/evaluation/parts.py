"""What each of several processes has decoded, a file each, until the first of them takes it into records.jsonl.

A file's name is its session's and its process's, so no start writes into what another one has left. Merging may be
killed anywhere: the rows are in one place or the other, or in both, and then the second time is dropped.
"""

from pathlib import Path

from toolkit.evaluation.outdir import PARTS
from toolkit.evaluation.ranks import Ranks
from toolkit.evaluation.records import Record, RecordFile, firsts, read


def own(records: Path, session: str, ranks: Ranks) -> RecordFile:
    """Where a process writes what comes into `records` later."""
    folder = records.parent / PARTS
    folder.mkdir(exist_ok=True)
    return RecordFile(folder / f"{session}-{ranks.place}.jsonl")


def merge(records: RecordFile) -> None:
    """The parts that are there, of any session and any number of processes, become rows of records.jsonl."""
    folder = records.path.parent / PARTS
    if not folder.is_dir():
        return
    paths = left(folder)
    records.take_in(paths)
    for path in paths:
        path.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()


def so_far(records: Path) -> list[Record]:
    """What a run under way, or one that was killed, has decoded, without lines that are no rows. Nothing is written."""
    # records.jsonl comes last: rows that are merged meanwhile are in one of the two
    found = [read(path) for path in (*left(records.parent / PARTS), records)]
    return firsts(row for lines in reversed(found) for row in lines.rows)


def left(folder: Path) -> list[Path]:
    """Those that are there now; a run that is under way may take them away meanwhile."""
    try:
        return sorted(folder.glob("*.jsonl"))
    except FileNotFoundError:  # the folder went between two looks of glob
        return []
