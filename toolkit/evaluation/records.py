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
    """A row: one prompt, decoded by one method with one seed."""

    # What stands below a field is its description in the JSON Schema (see schema.meanings)
    set: SetName
    """Which set: quality is batched and never timed, speed is timed."""
    method: str
    """Its name in the recipe; `baseline` is plain autoregression."""
    prompt_id: str
    """The problem's id in its task."""
    seed: int
    """Of all that is drawn; at temperature 0 the first seed's row stands for all."""
    repeat: int
    """Which repeat of this prompt and seed in the speed set, from 0."""
    resume_key: str
    """SHA-256 of what the row depends on: weights, prompt, pieces, sampling, seed. Another key is another row."""
    session: str
    """The start of the program that wrote it, as run.json lists it: its times were measured side by side."""
    block: int
    """Which block of prompts of its set, from 0; speeds are compared by block."""
    batch: int
    """How many rows were decoded together."""
    batch_key: str
    """The same for rows that were decoded together: the resume key of the first of them."""
    method_config: dict
    """The method's pieces with every option filled in; `own`: what a piece took from its files where that has null."""
    temperature: float
    """Of the sampling; 0 is greedy."""
    status: Literal["ok", "error"] = "ok"
    """Whether the prompt was decoded and judged."""
    error_type: str | None = None
    """The exception's name, of a row that failed."""
    message: str | None = None
    """What the exception said."""
    traceback: str | None = None
    """Where it was raised."""
    lossless: bool = True
    """Whether the method's law is exactly the target's, under this sampling."""
    text: str = ""
    """What was generated, decoded; of a conversation all answers, a blank line between."""
    tokens: list[int] = field(default_factory=list)
    """Token ids after the prompt, an EOS included; of a conversation also what was said to the model between turns."""
    n_tokens: int = 0
    """Tokens that were generated: of a conversation fewer than `tokens` has."""
    prompt_tokens: int = 0
    """Tokens of the prompt, its chat template included."""
    finish: str | None = None
    """How the text ended: eos, stop (a stop string) or length (the limit of new tokens)."""
    divergence: float | None = None
    """D summed over the verified places (docs/design.md, no unit); of lossy methods in the quality set, else null."""
    counters: dict[str, int] = field(default_factory=dict)
    """What the acceptance rule counted, by name."""
    sources: str = ""
    """Of a method with a gate a letter a token: 1 or 2, the draft whose choice it took, or t, the target."""
    routed: dict[str, int] = field(default_factory=dict)
    """Of a router: rounds by draft."""
    routing_seconds: float = 0.0
    """Of a router: what choosing took, in seconds, as a share of its batch's."""
    rounds: int = 0
    """Forwards of the target after prefill."""
    drafts: int = 0
    """Rounds that proposed a token or more."""
    proposed: int = 0
    """Tokens that were proposed."""
    accepted: int = 0
    """Proposed tokens that stood."""
    proposed_at: list[int] = field(default_factory=list)
    """At place i: rounds that proposed at least i + 1 tokens."""
    reached_at: list[int] = field(default_factory=list)
    """At place i: rounds that proposed as many and accepted the first i, the denominator of conditional acceptance."""
    accepted_at: list[int] = field(default_factory=list)
    """At place i: rounds that accepted at least i + 1 tokens."""
    windows: list[list[int]] = field(default_factory=list)
    """The rounds one by one, each [accepted, *rejected tokens]; [] where nothing was proposed.

    After the accepted tokens comes the target's own one, unless the text ended before it or a gate did not ask (see
    `sources`). [-n, i] stands between two turns: from token i on n tokens were said to the model.
    """
    times: dict[str, float] = field(default_factory=dict)
    """Seconds of the whole batch until this row ended: prefill, draft, verify, host, and total, their sum."""
    first_token_seconds: float = 0.0
    """Seconds from the batch's start to this row's first token."""
    peak_memory: int | None = None
    """Bytes; on a GPU the most that the batch allocated, on a CPU the most that the process has held so far."""
    correct: bool | None = None
    """Whether the answer is right; null: there is nothing to compare with. What the limit cuts off is wrong."""
    extracted: str | None = None
    """The answer that was found in the text, or the verdict on the program in it."""
    extraction: str | None = None
    """Which path found it: hashes, boxed, final_answer, last_number, text, code_block, whole_text or none."""
    schema_version: int = SCHEMA_VERSION
    """The version of this list of fields."""

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
    try:
        found = path.read_bytes().split(b"\n")
    except FileNotFoundError:  # not begun; or a part, which was taken in since it was looked for
        found = [b""]
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
