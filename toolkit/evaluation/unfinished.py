"""Has the run of a directory ended? One that is under way or was killed left no wrong file, but one that lacks rows.

A run that ends writes results.json, with the sessions that run.json has by then. So where a session is not in it, the
run went on after its last report (with more prompts, say), and did not come to the end.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from toolkit.evaluation.outdir import PARTS, RECIPE, RESULTS
from toolkit.evaluation.schema import ResultsFile, RunFile

_PART = re.compile(r"[0-9a-f]{12}-\d+")  # its session, and which process of that


@dataclass(frozen=True)
class Unfinished:
    """A run that has not ended. rows: how many it is to have; None: an older version began it."""

    directory: Path
    rows: int | None

    def said(self, there: int) -> str:
        """there: rows so far."""
        recipe = self.directory / RECIPE
        how = f"resume with `python -m eval {recipe}`" if recipe.is_file() else "its command goes on from here"
        of = "" if self.rows is None else f" of {self.rows}"
        return f"unfinished, as it is under way or was killed: {there}{of} rows; {how}"


def of(directory: Path, run: RunFile) -> Unfinished | None:
    """run: the directory's. None where it has ended."""
    if summed_up(directory / RESULTS, run):
        return None
    return Unfinished(directory, run.sessions[-1].rows if run.sessions else None)


def summed_up(results: Path, run: RunFile) -> bool:
    """Does its summary stand for all that it wrote?"""
    if not results.is_file():
        return False
    try:
        return _sessions(ResultsFile.model_validate_json(results.read_bytes())) == _sessions(run)
    except ValidationError:  # it is there, and what is wrong with it is said of itself
        return True


def is_part(path: Path) -> bool:
    """Rows of one process of several, which records.jsonl takes in later."""
    return path.parent.name == PARTS or _PART.fullmatch(path.stem) is not None


def _sessions(file: RunFile | ResultsFile) -> list[str]:
    return [session.id for session in file.sessions]
