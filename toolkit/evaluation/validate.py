"""`draftsmith validate PATH...`: are records.jsonl, run.json and results.json what other programs take them for?

Without --strict the keys of each row and their types, as the JSON Schemas in docs/schema have them (`--export DIR`
writes those). With it also what must hold within a row (validate_rows) and between rows and files (validate_files).

A run that has not ended is said to be unfinished, which is not wrong: what is only not there yet is no problem of its
files (a row of the baseline, the rest of a timed batch, the end of the last line).
"""

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ValidationError

from toolkit.errors import UserError, exit_code
from toolkit.evaluation import parts, schema, unfinished
from toolkit.evaluation.outdir import PARTS, RECORDS, RESULTS, RUN
from toolkit.evaluation.records import Item, Record
from toolkit.evaluation.unfinished import Unfinished, is_part
from toolkit.evaluation.validate_files import Rows
from toolkit.evaluation.validate_rows import wrong

_TORN = [("", "the last line is torn: the command that wrote it mends it")]
_PART = (
    "a part, as one process of several wrote it: the baseline's rows may be in another file, and the run's command "
    "takes this one in"
)
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


@dataclass(frozen=True)
class Run:
    """What is known of the run whose rows a file has."""

    file: schema.RunFile | None
    unfinished: Unfinished | None
    notes: list[str]
    results: schema.ResultsFile | None = None  # of a run that has ended


def main(argv: Sequence[str] | None = None) -> int:
    """Check what the arguments name -> 0, 1 where something is wrong, 2 where there is nothing to check."""
    does = (
        "Are the rows of an eval what other programs take them for? Exit code 0: nothing is wrong, also where a run is "
        "said to be unfinished (under way, or killed: how many rows are there, and the command that resumes it). 1: "
        "something is wrong. 2: there is nothing to check."
    )
    parser = argparse.ArgumentParser(prog="draftsmith validate", description=does)
    files = "records.jsonl, a part of it, or an output directory"
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help=files)
    parser.add_argument("--strict", action="store_true", help="also what must hold within rows and between them")
    parser.add_argument("--export", type=Path, metavar="DIR", help="write the JSON Schemas there, and their page")
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
    records = path / RECORDS if path.is_dir() else path
    if not (records.is_file() or (path / RUN).is_file()):  # a run that was killed at once has no row yet
        raise UserError(f"{path}: has no records; expected a {RECORDS}, or the output directory of an eval.")
    if path.is_dir():
        yield _json(path / RUN, schema.RunFile)
        if (path / RESULTS).is_file():  # the summary, which a run that has not ended has not
            yield _json(path / RESULTS, schema.ResultsFile)
    run = _run_of(records)
    files = [rows(one, strict, run) for one in (records, *parts.left(path / PARTS))]
    if run.unfinished and not is_part(records):
        there = set[Item]().union(*(items for _, items in files))  # where a merge was cut short rows are in two of them
        files[0][0].notes.append(run.unfinished.said(len(there)))
    yield from (checked for checked, _ in files)


def rows(path: Path, strict: bool, run: Run) -> tuple[Checked, set[Item]]:
    """The lines of a records file, with `strict` beside each other and their run.json -> and whose rows they are."""
    part = is_part(path)
    whole = not (part or run.unfinished)
    notes = [*(run.notes if strict else []), *([_PART] if part else [])]
    seen, problems, count = Rows(run.file, None if part else run.results), [], 0
    methods, items = set[str](), set[Item]()
    for line, text in enumerate(_lines(path), start=1):
        if not text.strip():
            continue
        row, found = _row(text)
        if found == _TORN and not whole:
            notes.append(_TORN[0][1])
            continue
        count += 1
        problems += [Problem(line, key, expected) for key, expected in found]
        if row is None:
            continue
        methods.add(row.method)
        items.add(row.item)
        if strict:
            problems += [Problem(line, key, expected) for key, expected in wrong(row)]
            problems += [Problem(*one) for one in seen.add(line, row)]
    if strict:
        problems += [Problem(*one) for one in seen.end(whole)]
    return Checked(path, f"{count} rows of {len(methods)} methods", problems, notes), items


def _lines(path: Path) -> Iterator[bytes]:
    """None of a file that is not there yet."""
    if path.is_file():
        with path.open("rb") as file:
            yield from file


def _row(text: bytes) -> tuple[Record | None, list[tuple[str, str]]]:
    try:
        return Record(**dict(schema.RecordRow.model_validate_json(text))), []
    except ValidationError as error:
        return None, schema.explained(error) if text.endswith(b"\n") else _TORN


def _run_of(records: Path) -> Run:
    """The run.json of a records file; what is wrong with it is said of itself, where a directory is checked."""
    home = records.parent.parent if records.parent.name == PARTS else records.parent
    if not (home / RUN).is_file():
        return Run(None, None, [f"no {RUN} beside it: sessions and methods were compared with nothing"])
    try:
        file = schema.RunFile.model_validate_json((home / RUN).read_bytes())
    except ValidationError:
        return Run(None, None, [f"{home / RUN} is not as expected: sessions and methods were compared with nothing"])
    left = unfinished.of(home, file)
    try:
        results = None if left else schema.ResultsFile.model_validate_json((home / RESULTS).read_bytes())
    except ValidationError:  # what is wrong with it is said of itself
        results = None
    return Run(file, left, [], results)


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
