"""Benchmark rows by name: from the directory that DRAFTSMITH_DATA_DIR names, else from the hub.

The directory holds `NAME.jsonl` or `NAME.jsonl.gz`. A row remembers where it came from, so that a corrupt line
or a missing field is reported by file and line number.
"""

import gzip
import json
import os
import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import UserError
from toolkit.tasks._types import Problem

DATA_DIR = "DRAFTSMITH_DATA_DIR"


@dataclass(frozen=True)
class Row:
    """One JSON object and its place."""

    values: dict[str, object]
    where: str

    def text(self, key: str) -> str:
        """A field that must be there and be text."""
        value = self.optional(key)
        if value is None:
            raise UserError(f"{self.where}: field {key!r} is missing; found {', '.join(self.values) or 'no field'}")
        return value

    def optional(self, key: str) -> str | None:
        """A field that may be missing or null; a number is taken as its text."""
        value = self.values.get(key)
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return str(value)
        raise UserError(f"{self.where}: field {key!r} is {type(value).__name__}; expected text")


def read_jsonl(path: Path) -> list[Row]:
    """Rows of a .jsonl or .jsonl.gz file; blank lines are skipped."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected JSON lines (.jsonl or .jsonl.gz)")
    opener = gzip.open if path.suffix == ".gz" else open
    rows = []
    number = 0
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    rows.append(Row(_parse(line, f"{path}, line {number}"), f"{path}, line {number}"))
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}, after line {number}: cannot be read ({error}); the file seems damaged, copy it anew"
        ) from error
    return rows


def _parse(line: str, where: str) -> dict[str, object]:
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not valid JSON ({error}); mend or delete the line") from error
    if not isinstance(values, dict):
        raise UserError(f"{where}: {type(values).__name__}; expected a JSON object")
    return values


def local(name: str) -> list[Row] | None:
    """Rows of the benchmark file `name` in the data directory; None where it is not at hand."""
    directory = os.environ.get(DATA_DIR)
    for suffix in (".jsonl.gz", ".jsonl") if directory else ():
        path = Path(directory) / f"{name}{suffix}"
        if path.is_file():
            return read_jsonl(path)
    return None


def load(name: str, hub_id: str, from_hub: Callable[[], list[Row]]) -> list[Row]:
    """Rows of the benchmark file `name`; `from_hub` fetches and maps them where there is no such file."""
    rows = local(name)
    if rows is not None:
        return rows
    directory = os.environ.get(DATA_DIR)
    try:
        return from_hub()
    except (OSError, ValueError) as error:  # unreachable, unknown, gated, offline: `datasets` raises these
        looked = f"no {name}.jsonl[.gz] in {directory}" if directory else f"{DATA_DIR} is not set"
        raise UserError(
            f"data {name!r} not found: {looked}, and {hub_id!r} could not be loaded from the hub "
            f"({type(error).__name__}: {error}). Either set {DATA_DIR} to a directory that holds {name}.jsonl[.gz], "
            f"or run once where the hub can be reached, which fills its cache"
        ) from error


def hub_rows(hub_id: str, config: str | None, split: str) -> list[Row]:
    """One split of a hub dataset."""
    import datasets  # here, because importing it takes seconds that local files need not pay

    where = f"{hub_id} ({config}, {split})"
    return [
        Row(dict(row), f"{where}, row {index}")
        for index, row in enumerate(datasets.load_dataset(hub_id, config, split=split))
    ]


def check_range(limit: int | None, offset: int) -> None:
    """Refuse a range that can select nothing."""
    if offset < 0 or (limit is not None and limit < 1):
        raise UserError(f"task: offset={offset}, limit={limit}; expected offset >= 0 and limit >= 1 (or null for all)")


def select(problems: Sequence[Problem], limit: int | None, offset: int, shuffle_seed: int | None) -> list[Problem]:
    """Shuffle (None: keep the file's order), skip `offset`, take `limit` (None: all); the same every time."""
    check_range(limit, offset)
    order = list(problems)
    if shuffle_seed is not None:
        random.Random(shuffle_seed).shuffle(order)
    chosen = order[offset:] if limit is None else order[offset : offset + limit]
    if not chosen:
        raise UserError(
            f"task: no problem is selected (offset={offset}, limit={limit}, of {len(order)} that fit the filters)"
        )
    return chosen


def choice(key: str, value: str, allowed: Sequence[str]) -> str:
    """`value` if it is allowed, else an error that lists what is."""
    if value not in allowed:
        raise UserError(f"task: {key} is {value!r}; expected one of {', '.join(allowed)}")
    return value
