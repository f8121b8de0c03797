"""`draftsmith validate PATH...`: are records.jsonl, run.json and results.json what other programs take them for?

Without --strict the keys of each row and their types, as the JSON Schemas in docs/schema have them (`--export DIR`
writes those). With it also what must hold within a row (validate_rows) and between rows and files (validate_files).
"""

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ValidationError

from toolkit.errors import UserError, exit_code
from toolkit.evaluation import schema
from toolkit.evaluation.outdir import PARTS
from toolkit.evaluation.records import Record
from toolkit.evaluation.validate_files import Rows
from toolkit.evaluation.validate_rows import wrong

MOST = 20  # problems that are shown of a file; the same one in many lines counts once


@dataclass(frozen=True)
class Problem:
    """line: 0 in a JSON file, which is one value."""

    line: int
    key: str
    expected: str

    def said(self, path: Path) -> str:
        place = f"{path}:{self.line}" if self.line else str(path)
        return f"{place}: key '{self.key}': {self.expected}" if self.key else f"{place}: {self.expected}"


@dataclass
class Checked:
    """A file, what it holds in a few words, and what is wrong with it."""

    path: Path
    holds: str
    problems: list[Problem]
    notes: list[str] = field(default_factory=list)


def main(argv: Sequence[str] | None = None) -> int:
    """Check what the arguments name -> 0, 1 where something is wrong, 2 where there is nothing to check."""
    does = "Are the rows of an eval what other programs take them for? Exit code 0, or 1 where something is wrong."
    parser = argparse.ArgumentParser(prog="draftsmith validate", description=does)
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="records.jsonl, or an output directory")
    parser.add_argument("--strict", action="store_true", help="also what must hold within rows and between them")
    parser.add_argument("--export", type=Path, metavar="DIR", help="write the JSON Schemas there")
    given = parser.parse_args(argv)
    if not given.paths and given.export is None:
        parser.error("name a records.jsonl or an output directory, or --export DIR")
    return exit_code(lambda: _run(given.paths, given.strict, given.export))


def _run(paths: Sequence[Path], strict: bool, out: Path | None) -> int:
    if out is not None:
        print(f"written: {', '.join(map(str, schema.export(out)))}")
    bad = 0
    for path in paths:
        for checked in check(path, strict):
            _say(checked)
            bad += bool(checked.problems)
    return 1 if bad else 0


def check(path: Path, strict: bool) -> Iterator[Checked]:
    """A records file, or all of a directory's files. UserError where there is none."""
    records = path / "records.jsonl" if path.is_dir() else path
    if not records.is_file():
        raise UserError(f"{path}: has no records; expected a records.jsonl, or the output directory of an eval.")
    if path.is_dir():
        yield _json(path / "run.json", schema.RunFile)
        if (path / "results.json").is_file():  # the summary, which a run that has not ended has not
            yield _json(path / "results.json", schema.ResultsFile)
    checked = rows(records, strict)
    checked.notes += _left(path) if path.is_dir() else []
    yield checked


def _left(path: Path) -> list[str]:
    """What a run that has not ended leaves: rows elsewhere, and rows without those that come beside them."""
    parts = [part.read_bytes().count(b"\n") for part in (path / PARTS).glob("*.jsonl")]
    left = [f"{sum(parts)} rows in {PARTS} were not looked at: the run's command takes them in"] if parts else []
    if not (path / "results.json").is_file():
        left.append("the run is under way or was killed, so rows may be missing: its command goes on")
    return left


def rows(path: Path, strict: bool) -> Checked:
    """The lines of a records file; with `strict` beside each other and the run.json next to it."""
    run, notes = _run_beside(path) if strict else (None, [])
    seen, problems, count = Rows(run), [], 0
    methods: set[str] = set()
    with path.open("rb") as file:
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            count += 1
            row, found = _row(text)
            problems += [Problem(line, key, expected) for key, expected in found]
            if row is None:
                continue
            methods.add(row.method)
            if strict:
                problems += [Problem(line, key, expected) for key, expected in wrong(row)]
                problems += [Problem(*one) for one in seen.add(line, row)]
    if strict:
        problems += [Problem(*one) for one in seen.end()]
    return Checked(path, f"{count} rows of {len(methods)} methods", problems, notes)


def _row(text: bytes) -> tuple[Record | None, list[tuple[str, str]]]:
    try:
        return Record(**dict(schema.RecordRow.model_validate_json(text))), []
    except ValidationError as error:
        torn = [] if text.endswith(b"\n") else [("", "the last line is torn: the command that wrote it mends it")]
        return None, torn or schema.explained(error)


def _run_beside(path: Path) -> tuple[schema.RunFile | None, list[str]]:
    """run.json next to the records; what is wrong with it is said of itself, where a directory is checked."""
    beside = path.with_name("run.json")
    if not beside.is_file():
        return None, ["no run.json beside it: sessions and methods were compared with nothing"]
    try:
        return schema.RunFile.model_validate_json(beside.read_bytes()), []
    except ValidationError:
        return None, [f"{beside} is not as expected: sessions and methods were compared with nothing"]


def _json(path: Path, model: type[BaseModel]) -> Checked:
    if not path.is_file():
        return Checked(
            path, "not there", [Problem(0, "", "expected beside records.jsonl: it says whose rows these are")]
        )
    try:
        model.model_validate_json(path.read_bytes())
    except ValidationError as error:
        return Checked(path, "read", [Problem(0, *one) for one in schema.explained(error)])
    return Checked(path, "read", [])


def _say(checked: Checked) -> None:
    alike = Counter((problem.key, problem.expected) for problem in checked.problems)
    first = {(problem.key, problem.expected): problem for problem in reversed(checked.problems)}
    shown = list(alike)[:MOST]
    for kind in shown:
        more = f" (and so in {alike[kind] - 1} more lines)" if alike[kind] > 1 else ""
        print(first[kind].said(checked.path) + more)
    if len(alike) > MOST:
        keys = Counter(problem.key or "row" for problem in checked.problems).most_common()
        left = len(checked.problems) - sum(alike[kind] for kind in shown)
        print(f"... and {left} more; in all: {', '.join(f'{key} {n}' for key, n in keys)}")
    found = len(checked.problems)
    verdict = "nothing wrong" if not found else "1 problem" if found == 1 else f"{found} problems"
    print(f"{checked.path}: {'; '.join([checked.holds, verdict, *checked.notes])}")
