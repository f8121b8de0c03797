"""records.jsonl: one row for each set x prompt x method x seed (x repeat), written as the run goes.

Rows are appended and synced a block at a time. A process may be killed between any two bytes, so opening the file
repairs it: a line that does not parse is named, moved to `records.corrupt.jsonl` and its item is decoded again.
The rest is kept.
"""

import gc
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Literal

import orjson

from toolkit.errors import UserError
from toolkit.files import finite, write_atomic

SCHEMA_VERSION = 3
SetName = Literal["quality", "speed"]


@dataclass(frozen=True)
class Item:
    """What is to be decoded once: the identity of a row."""

    set: str
    method: str
    prompt_id: str
    seed: int
    repeat: int


@dataclass
class Record:
    """A row.

    rounds: target forwards after prefill; drafts: rounds that proposed something; proposed_at[i], accepted_at[i]:
    rounds that proposed, accepted, at least i + 1 tokens; reached_at[i]: rounds that proposed that many and accepted
    the first i, the denominator of conditional acceptance. windows: the rounds one by one, each [accepted, *rejected
    tokens], after whose accepted tokens comes the target's own one, unless the text ended before it or a gate did not
    ask (see `sources`); [-n, i] between two turns: from token i on n tokens that were said to the model. [] where
    nothing was proposed.
    """

    set: SetName
    method: str
    prompt_id: str
    seed: int
    repeat: int
    resume_key: str
    session: str  # which process run it: times of one session were measured side by side
    block: int  # which block of prompts of its set
    batch: int  # how many rows were decoded together
    batch_key: str  # the same for rows that were
    method_config: dict
    temperature: float
    status: Literal["ok", "error"] = "ok"
    error_type: str | None = None
    message: str | None = None
    traceback: str | None = None
    lossless: bool = True
    text: str = ""
    tokens: list[int] = field(default_factory=list)
    n_tokens: int = 0
    prompt_tokens: int = 0
    finish: str | None = None
    divergence: float | None = None  # sum of D over verified places; of lossy methods, in the quality set
    counters: dict[str, int] = field(default_factory=dict)  # what the acceptance rule counted, by name
    sources: str = ""  # a letter a token: 1 or 2, the draft whose choice a gate took, or t, the target; "": no gate
    routed: dict[str, int] = field(default_factory=dict)  # of a router: rounds by draft
    routing_seconds: float = 0.0  # and what choosing took, a share of the batch's
    rounds: int = 0
    drafts: int = 0
    proposed: int = 0
    accepted: int = 0
    proposed_at: list[int] = field(default_factory=list)
    reached_at: list[int] = field(default_factory=list)
    accepted_at: list[int] = field(default_factory=list)
    windows: list[list[int]] = field(default_factory=list)
    times: dict[str, float] = field(default_factory=dict)  # prefill, draft, verify, host, total: of the whole batch
    first_token_seconds: float = 0.0
    peak_memory: int | None = None  # bytes; see system.peak_memory
    correct: bool | None = None  # None: the task has no answer to compare with
    extracted: str | None = None
    extraction: str | None = None  # which path found the answer
    schema_version: int = SCHEMA_VERSION

    @property
    def item(self) -> Item:
        return Item(self.set, self.method, self.prompt_id, self.seed, self.repeat)

    @property
    def ok(self) -> bool:
        return self.status == "ok"


_FIELDS = {f.name for f in fields(Record)}
_LATER = {"sources", "routed", "routing_seconds", "windows"}  # rows of this schema version may be older than these


def required() -> set[str]:
    """The keys that every row of this schema version has."""
    return _FIELDS - _LATER


def parse(line: bytes) -> Record:
    """A record from its line; ValueError when it is not one."""
    data = orjson.loads(line)
    if not isinstance(data, dict):
        raise ValueError("not a JSON object")
    if data.get("schema_version", SCHEMA_VERSION) != SCHEMA_VERSION:
        raise UserError(
            f"records of schema version {data['schema_version']}, this program writes {SCHEMA_VERSION}: "
            "use another out=DIR, or the version of draftsmith that wrote them"
        )
    if differing := set(data) - _FIELDS | _FIELDS - _LATER - set(data):
        raise ValueError(f"not a record: keys differ in {sorted(differing)[:5]}")
    return Record(**data)


def encode(record: Record) -> bytes:
    return json.dumps(finite(asdict(record)), ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"


@dataclass(frozen=True)
class Lines:
    """What a file of rows holds. bad: number, line, and why it is no row. torn: the last line has no end."""

    rows: list[Record]
    bad: list[tuple[int, bytes, str]]
    torn: bool


def read(path: Path) -> Lines:
    """Nothing is written. UserError where rows are of another schema version."""
    found = path.read_bytes().split(b"\n") if path.exists() else [b""]
    lines = Lines([], [], bool(found[-1]))
    with _uncollected():
        for number, line in enumerate(found, start=1):
            if not line:
                continue
            try:
                lines.rows.append(parse(line))
            except UserError as error:
                raise UserError(f"{path}: {error}") from None
            except (ValueError, TypeError) as error:
                what = "torn (the run was killed while writing it)" if number == len(found) else "corrupt"
                lines.bad.append((number, line, f"{what}: {error}"))
    return lines


def firsts(rows: Iterable[Record]) -> list[Record]:
    """The first row of each item."""
    first: dict[Item, Record] = {}
    for row in rows:
        first.setdefault(row.item, row)
    return list(first.values())


@contextmanager
def _uncollected() -> Iterator[None]:
    """Rows hold no cycles, and to look for some again and again takes longer than to read them."""
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collected:
            gc.enable()


class RecordFile:
    """The rows of one output directory. Open it under the directory's lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        found = read(path)
        self.rows = found.rows
        self._set_aside(path, found)
        if found.bad or found.torn:
            self.rewrite(self.rows)

    def keep(self, wanted: Callable[[Record], bool]) -> None:
        """Drop the rows that are not wanted, and all but the first row of an item."""
        kept = firsts(row for row in self.rows if wanted(row))
        if len(kept) < len(self.rows):
            self.rewrite(kept)

    def take_in(self, others: Iterable[Path]) -> None:
        """The rows of other files whose items are not here yet, all at once. These files are left as they are."""
        rows = [*self.rows]
        for path in others:
            found = read(path)
            self._set_aside(path, found)
            rows += found.rows
        if len(rows) > len(self.rows):
            self.rewrite(firsts(rows))

    def rewrite(self, rows: list[Record]) -> None:
        write_atomic(self.path, b"".join(encode(row) for row in rows))
        self.rows = list(rows)

    def append(self, rows: Iterable[Record]) -> None:
        """One line at a time, synced once: a kill tears at most the last line."""
        rows = list(rows)
        with self.path.open("ab") as file:
            for row in rows:
                file.write(encode(row))
                file.flush()
            os.fsync(file.fileno())
        self.rows.extend(rows)

    def _set_aside(self, path: Path, found: Lines) -> None:
        if not found.bad:
            return
        aside = self.path.with_suffix(".corrupt.jsonl")
        with aside.open("ab") as file:
            file.writelines(line + b"\n" for _, line, _ in found.bad)
        for number, _, why in found.bad:
            print(
                f"warning: {path} line {number} is {why}. Moved to {aside.name}; the other {len(found.rows)} rows are "
                "kept and this one is decoded again.",
                file=sys.stderr,
            )
