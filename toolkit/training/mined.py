"""Mined directories, read: `mined.json` (whose, and how) and `parts/*.parquet`, a row a mismatch and a row a prompt.

A mismatch is a place of a target's answer where its draft would have said something else; the row says whether that
would have changed the final answer. What was mined by another version, or of another target or draft than the first
directory's, is refused.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from toolkit import config
from toolkit.binding import shortened
from toolkit.errors import UserError
from toolkit.evaluation.outdir import flat
from toolkit.nets.judge import COLUMNS

SCHEMA_VERSION = 1
HEADER, PARTS = "mined.json", "parts"
MISMATCHES, PROMPTS = "mismatches", "prompts"
_AGAIN = "Mine it again (train/autojudge.py), or leave this directory out."
_METADATA = {"draftsmith_mined_version": str(SCHEMA_VERSION)}

_OF_MISMATCHES = {
    "prompt": pa.string(),  # key of the problem
    "request": pa.int64(),
    "position": pa.int32(),  # place in the answer
    "target_token": pa.int32(),  # what the target says there
    "draft_token": pa.int32(),  # what the draft would have said
    "important": pa.bool_(),
    "decided": pa.int32(),  # in which turn of its prompt's search
    **dict.fromkeys(COLUMNS, pa.float32()),  # of the law that judges the draft's token
}
_OF_PROMPTS = {
    "prompt": pa.string(),
    "digest": pa.string(),  # of the prompt's very tokens
    "request": pa.int64(),
    "prompt_tokens": pa.list_(pa.int32()),
    "target_tokens": pa.list_(pa.int32()),  # the target's own answer
    "target_answer": pa.string(),
    "alpha": pa.string(),  # what the task reads from it; null where it finds nothing, and nothing was searched
    "correct": pa.bool_(),  # whether it is right; null where nobody knows
    "tokens": pa.list_(pa.int32()),  # the answer after all unimportant swaps
    "answer": pa.string(),
    "mismatches": pa.int32(),
    "important": pa.int32(),
    "decoded": pa.int32(),  # tokens of all continuations, one a mismatch
    "seconds": pa.float32(),  # from beginning to end, beside the other prompts of its batch
}


def mismatches_schema(hidden: dict[str, int]) -> pa.Schema:
    """hidden: whose states of the draft's token are kept, and their size: {"target": 576}."""
    states = {f"{name}_hidden": pa.list_(pa.float16(), size) for name, size in hidden.items()}
    return pa.schema(_OF_MISMATCHES | states, metadata=_METADATA)


def prompts_schema() -> pa.Schema:
    return pa.schema(_OF_PROMPTS, metadata=_METADATA)


@dataclass(frozen=True)
class Header:
    """Whose rows they are, and how they were mined."""

    schema_version: int
    target: dict[str, Any]  # its ModelConfig
    binds: dict[str, dict[str, Any]]  # target, draft -> identity, as a manifest has them
    proposer: dict[str, Any]  # the piece, all its options
    max_new_tokens: int
    temperature: float  # 0: greedy
    thinking: bool
    hidden: dict[str, int]  # whose states are kept: target, draft -> their size
    data: list[Any]  # the tasks that asked
    created: str
    code: dict[str, Any]

    def identity(self) -> dict[str, Any]:
        """What must agree where rows are read together or added; which prompts were asked may differ."""
        return {key: value for key, value in vars(self).items() if key not in ("data", "created", "code")}


def differing(found: Header, expected: Header) -> tuple[str, str, str] | None:
    """The first key of their identities that differs, and its values as a message shows them: digests are cut short.

    Who is another comes first: what a recipe says of a model is often no more than its path.
    """
    one, other = flat(found.identity()), flat(expected.identity())
    for path in sorted({**one, **other}, key=lambda path: path[0] != "binds"):
        if one.get(path) != other.get(path):
            digests = path[0] == "binds" and path[-1] != "name"
            shown = (shortened(side[path]) if digests else repr(side.get(path)) for side in (one, other))
            return ".".join(path), *shown
    return None


@dataclass(frozen=True)
class Mined:
    """One directory or more, of the same pair."""

    directories: tuple[Path, ...]
    header: Header  # of the first

    @staticmethod
    def open(directories: Sequence[str | Path]) -> "Mined":
        """UserError where one cannot be read, or is of another pair than the first."""
        paths = tuple(Path(name).expanduser() for name in directories)
        if not paths:
            raise UserError("nothing mined: expected one directory or more of train/autojudge.py (key 'mined').")
        headers = [read_header(path) for path in paths]
        for path, header in zip(paths[1:], headers[1:], strict=True):
            if other := differing(header, headers[0]):
                key, found, value = other
                raise UserError(
                    f"{path / HEADER}: key '{key}' is {found}, and {paths[0] / HEADER} has {value}. What is "
                    "learned from together must be of one target and one draft, mined alike."
                )
        return Mined(paths, headers[0])

    def rows(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All mismatches, a row each; of these columns, or all. UserError where there are none."""
        known = mismatches_schema(self.header.hidden).names
        chosen = None if columns is None else [name for name in columns if name in known]
        table = self._table(MISMATCHES, chosen)
        if not table.num_rows:
            raise UserError(f"{self.directories[0]}: no mismatch was mined yet. {_AGAIN}")
        return table

    def prompts(self) -> pa.Table:
        """A row a prompt that was searched to its end."""
        return self._table(PROMPTS, None)

    def parts(self, kind: str) -> list[Path]:
        """Files of mismatches or of prompts; mismatches without their prompts were cut off by a kill."""
        return [part for path in self.directories for part in parts(path, kind)]

    def fingerprint(self) -> str:
        """SHA-256 of all mismatches."""
        total = hashlib.sha256()
        for part in self.parts(MISMATCHES):
            with part.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
        return total.hexdigest()

    def _table(self, kind: str, columns: list[str] | None) -> pa.Table:
        """The rows of all directories; UserError where two of them have a prompt in common."""
        found = self.parts(kind)
        seen: dict[str, int] = {}
        whole = self.parts(PROMPTS)
        for number, part in enumerate(whole):
            for prompt in read(part, ["prompt"])["prompt"].to_pylist():
                if (other := seen.setdefault(prompt, number)) != number:
                    raise UserError(
                        f"{part}: has prompt '{prompt}', as {whole[other]} has. What is learned from together must "
                        "be of different prompts: leave one directory out."
                    )
        schema = mismatches_schema(self.header.hidden) if kind == MISMATCHES else prompts_schema()
        names = schema.names if columns is None else columns
        empty = pa.schema([schema.field(name) for name in names], metadata=_METADATA).empty_table()
        return pa.concat_tables([empty, *(read(part, names) for part in found)])


def parts(directory: Path, kind: str) -> list[Path]:
    """Of the prompts that were searched to their ends."""
    prompts = sorted((directory / PARTS).glob(f"{PROMPTS}-*.parquet"))
    return [part.with_name(part.name.replace(PROMPTS, kind, 1)) for part in prompts]


def read(part: Path, columns: Sequence[str]) -> pa.Table:
    try:
        return pq.ParquetFile(part).read(list(columns)).select(list(columns))  # a file has its own order
    except (OSError, pa.ArrowException) as error:
        others = part.parent / f"*-{part.name.partition('-')[2]}"
        raise UserError(
            f"{part}: not readable as Parquet ({error}). Delete {others}, and run the same command again."
        ) from None


def read_header(directory: Path) -> Header:
    path = directory / HEADER
    if not path.is_file():
        raise UserError(f"{directory}: no {HEADER}, so nothing was mined here. Expected a directory of the key 'mine'.")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as JSON ({error}). {_AGAIN}") from None
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != SCHEMA_VERSION:
        raise UserError(
            f"{path}: key 'schema_version' is {version!r}; this version of draftsmith reads {SCHEMA_VERSION}. {_AGAIN}"
        )
    return config.parse(Header, data, str(path))
