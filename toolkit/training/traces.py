"""Trace directories, read: `trace.json` (whose, and how collected), `parts/*.parquet`, `costs.json` (milliseconds).

What learners read are `Windows`: numpy arrays [n, K], a row a drafted window, padded to the longest. A trace of another
schema, lenience grid, target or draft is refused, never approximated.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from toolkit import config
from toolkit.engine.trace import SCHEMA_VERSION
from toolkit.errors import UserError
from toolkit.training import trace_parts
from toolkit.training.trace_parts import AGAIN, HEADER, PARTS, PLACES, ROUNDS

COSTS = "costs.json"
COSTS_FORMAT = 2  # 1 had those of one temperature
_MEASURE = "run the trace's train/collect.py command again, with one process and nothing else on the machine."


@dataclass(frozen=True)
class Header:
    """Whose trace it is, and how it was collected."""

    schema_version: int
    target: dict[str, Any]  # its ModelConfig
    binds: dict[str, dict[str, Any]]  # target, draft -> identity, as a manifest has them
    proposer: dict[str, Any]  # the piece, all its options
    limit: int  # longest window, tokens
    lenience: list[float]  # the T of accept_T and tv_T
    temperatures: list[float]
    max_new_tokens: int
    seed: int
    hidden: list[str]  # which states are kept: draft, target
    data: list[Any]  # the tasks that asked
    created: str
    code: dict[str, Any]

    def identity(self) -> dict[str, Any]:
        """What must agree where traces are read together or extended; which prompts were asked may differ."""
        free = ("data", "created", "code", "temperatures", "seed", "hidden")
        return {key: value for key, value in vars(self).items() if key not in free}


@dataclass(frozen=True)
class Costs:
    """What a round costs at one temperature, milliseconds: medians of rounds that were decoded for this alone.

    Temperatures differ: a verdict at 0 is an argmax, above it a law, and the draft's law is drawn from.
    """

    draft_ms: list[float]  # [K+1] of drafting with 0..K draft steps
    verify_ms: list[float]  # [K+1] of the target's forward over the pending token and a window of 0..K
    host_ms: float  # of everything else
    rounds: list[int]  # [K+1] how many rounds each median is of
    batch: int
    threads: int
    hardware: dict[str, Any]

    def round_ms(self, k: np.ndarray | int, steps: np.ndarray | int) -> np.ndarray:
        """Of a round that verified a window of k after so many draft steps: k, or one more that was only looked at."""
        return np.asarray(self.draft_ms)[steps] + np.asarray(self.verify_ms)[k] + self.host_ms


@dataclass(frozen=True)
class Windows:
    """n drafted windows of one temperature, padded to K places; a request's windows follow each other."""

    temperature: float
    lenience: np.ndarray  # [n_T]
    valid: np.ndarray  # [n, K] bool, a prefix of each row
    token: np.ndarray  # [n, K] int32
    accepted: np.ndarray  # [n, K] bool
    log_p: np.ndarray  # [n, K] float32, as all without a note; see toolkit.engine.trace
    log_q: np.ndarray
    log_ratio: np.ndarray
    entropy_p: np.ndarray
    entropy_q: np.ndarray
    margin_p: np.ndarray
    margin_q: np.ndarray
    kl: np.ndarray
    tv: np.ndarray
    log_s: np.ndarray
    rank_p: np.ndarray  # [n, K] int32
    rank_q: np.ndarray
    accept_T: np.ndarray  # [n, K, n_T] float32
    tv_T: np.ndarray
    request: np.ndarray  # [n] int64
    window: np.ndarray  # [n] int32: number of the round in its request
    committed: np.ndarray  # [n] int32
    k_prev: np.ndarray  # [n] mean kl of the previous window up to its first rejection; 0 before the first
    following: np.ndarray  # [n] int64: row of the request's next window, -1 = none
    draft_hidden: np.ndarray | None = None  # [n, K, H] float16: the state that each token was drawn from

    def __len__(self) -> int:
        return len(self.request)

    def of(self, rows: np.ndarray) -> "Windows":
        """Those of some requests: rows [n] bool, all windows of a request or none."""
        place = np.cumsum(rows) - 1
        columns = {name: value for name, value in vars(self).items() if name not in ("temperature", "lenience")}
        kept = {name: None if value is None else value[rows] for name, value in columns.items()}
        kept["following"] = np.where(kept["following"] < 0, -1, place[kept["following"]])
        return Windows(self.temperature, self.lenience, **kept)


@dataclass(frozen=True)
class Trace:
    """One directory or more of the same pair."""

    directories: tuple[Path, ...]
    header: Header  # of the first

    @staticmethod
    def open(directories: Sequence[str | Path]) -> "Trace":
        """UserError where one is no trace that can be read, or is of another target or draft than the first."""
        paths = tuple(Path(name).expanduser() for name in directories)
        if not paths:
            raise UserError("no trace: expected one directory or more that train/collect.py wrote (key 'traces').")
        headers = [read_header(path) for path in paths]
        for path, header in zip(paths[1:], headers[1:], strict=True):
            _same(paths[0], headers[0], path, header)
        return Trace(paths, headers[0])

    def windows(self, temperature: float, *, hidden: bool = False) -> Windows:
        """All windows that were drafted at this temperature, with the draft's states if asked for."""
        headers = {path: read_header(path) for path in self.directories}
        known = sorted({value for header in headers.values() for value in header.temperatures})
        if temperature not in known:
            raise UserError(
                f"{self.directories[0]}: key 'temperature' is {temperature:g}, and the trace was collected at "
                f"{', '.join(f'{value:g}' for value in known)}. Choose one of these, or collect that one as well."
            )
        for path, header in headers.items():
            if hidden and "draft" not in header.hidden:
                raise UserError(
                    f"{path / HEADER}: key 'hidden' is {header.hidden}: the draft's hidden states were not kept. "
                    "Collect the trace with trace.hidden=[draft] into another trace.path."
                )
        parts = self.parts(PLACES)
        states = ("draft_hidden",) if hidden else ()
        tables = [trace_parts.read(part, PLACES, self.header.lenience, states) for part in parts]
        chosen = [
            table.filter(pc.equal(table["temperature"], pa.scalar(temperature, pa.float32()))) for table in tables
        ]
        if not sum(table.num_rows for table in chosen):
            raise UserError(f"{self.directories[0]}: no drafted position at temperature {temperature:g}. {AGAIN}")
        for part, table in zip(parts, chosen, strict=True):
            trace_parts.check_depths(part, table, self.header.limit)
        trace_parts.check_once(parts, chosen)
        return _windows(trace_parts.joined(parts, chosen), self.header, temperature, hidden)

    def rounds(self) -> pa.Table:
        """A row a round and request; see toolkit.engine.trace. UserError where nothing was collected yet."""
        parts = self.parts(ROUNDS)
        tables = [trace_parts.read(part, ROUNDS, self.header.lenience) for part in parts]
        if not sum(table.num_rows for table in tables):
            raise UserError(f"{self.directories[0]}: holds nothing yet. Run its train/collect.py command to the end.")
        return trace_parts.joined(parts, tables)

    def parts(self, kind: str) -> list[Path]:
        """Files of positions or of rounds; rounds that have no positions beside them were cut off by a kill."""
        places = [part for path in self.directories for part in sorted((path / PARTS).glob(f"{PLACES}-*.parquet"))]
        return [part.with_name(part.name.replace(PLACES, kind, 1)) for part in places]

    def costs(self, temperature: float) -> Costs:
        """Of the first directory that has them for this temperature; UserError where none has."""
        known = self.known_costs()
        if (key := f"{temperature:g}") in known:
            return known[key]
        path = self.directories[0] / COSTS
        if not known:
            raise UserError(
                f"{path}: is missing, so it is not known what a draft step and a verification cost. For that, "
                f"{_MEASURE}"
            )
        raise UserError(
            f"{path}: has costs at temperature {', '.join(known)}, and none at {key}, where a verdict takes another "
            f"time. Delete it and {_MEASURE}"
        )

    def known_costs(self) -> dict[str, Costs]:
        """Temperature as text -> what was measured at it; of several directories, the first that has it."""
        known: dict[str, Costs] = {}
        for directory in self.directories:
            known = read_costs(directory, self.header.limit) | known
        return known


def read_costs(directory: Path, limit: int) -> dict[str, Costs]:
    """Temperature as text -> its costs, {} where none were measured. UserError where the file is of another format."""
    path = directory / COSTS
    if not path.is_file():
        return {}
    data = _json(path, f"Delete it and {_MEASURE}")
    if not isinstance(data, dict) or data.get("format") != COSTS_FORMAT or not isinstance(data.get("costs"), dict):
        found = repr(data.get("format")) if isinstance(data, dict) and "format" in data else "missing"
        raise UserError(
            f"{path}: key 'format' is {found}; expected {COSTS_FORMAT}, with costs for each temperature. Delete it and "
            f"{_MEASURE}"
        )
    known = {name: config.parse(Costs, node, f"{path}: costs.{name}") for name, node in data["costs"].items()}
    for name, costs in known.items():
        if not len(costs.draft_ms) == len(costs.verify_ms) == limit + 1:
            raise UserError(
                f"{path}: key 'costs.{name}' has costs of windows up to {len(costs.draft_ms) - 1}; expected up to "
                f"{limit}. Delete it and {_MEASURE}"
            )
    return known


def read_header(directory: Path) -> Header:
    path = directory / HEADER
    if not path.is_file():
        raise UserError(f"{directory}: no {HEADER}, so this is no trace. Expected a directory of train/collect.py.")
    data = _json(path)
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != SCHEMA_VERSION:
        raise UserError(
            f"{path}: key 'schema_version' is {version!r}; this version of draftsmith reads {SCHEMA_VERSION}. {AGAIN}"
        )
    return config.parse(Header, data, str(path))


def _json(path: Path, way_out: str = AGAIN) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as JSON ({error}). {way_out}") from None


def _same(first: Path, expected: Header, other: Path, found: Header) -> None:
    theirs = found.identity()
    for key, value in expected.identity().items():
        if theirs[key] != value:
            raise UserError(
                f"{other / HEADER}: key '{key}' is {theirs[key]}, and {first / HEADER} has {value}. Traces that are "
                "learned from together must be of one target and one draft, collected alike."
            )


_FLOATS = (
    *("log_p", "log_q", "log_ratio", "entropy_p", "entropy_q", "margin_p", "margin_q", "kl", "tv", "log_s"),
    *("accept_T", "tv_T"),
)
_OTHERS = ("token", "accepted", "rank_p", "rank_q")


def _windows(table: pa.Table, header: Header, temperature: float, hidden: bool) -> Windows:
    request, number, depth = (_array(table, name).astype(np.int64) for name in ("request", "window", "depth"))
    order = np.lexsort((depth, number, request))
    request, number, depth = request[order], number[order], depth[order]
    first = np.r_[True, (np.diff(request) != 0) | (np.diff(number) != 0)]
    row = np.cumsum(first) - 1  # [m] which window a position belongs to
    n, width = int(row[-1]) + 1, header.limit

    def spread(name: str) -> np.ndarray:
        values = _array(table, name)[order]
        values = values.astype(np.float32) if name in _FLOATS else values
        padded = np.zeros((n, width, *values.shape[1:]), values.dtype)
        padded[row, depth] = values
        return padded

    columns = {name: spread(name) for name in (*_FLOATS, *_OTHERS)}
    valid = np.zeros((n, width), bool)
    valid[row, depth] = True
    requests, numbers = request[first], number[first]
    next_one = np.r_[(np.diff(requests) == 0) & (np.diff(numbers) == 1), False]
    following = np.where(next_one, np.arange(1, n + 1), -1)
    seen = np.minimum(columns["accepted"].sum(1) + 1, valid.sum(1))  # places up to the first rejection
    mean = (columns["kl"] * (np.arange(width) < seen[:, None])).sum(1) / seen
    k_prev = np.zeros(n, np.float32)
    k_prev[following[following >= 0]] = mean[following >= 0]
    return Windows(
        temperature=temperature,
        lenience=np.array(header.lenience),
        valid=valid,
        request=requests,
        window=numbers.astype(np.int32),
        committed=_array(table, "committed")[order][first],
        k_prev=k_prev,
        following=following,
        draft_hidden=spread("draft_hidden") if hidden else None,
        **columns,
    )


def _array(table: pa.Table, name: str) -> np.ndarray:
    """[m], or [m, n] of a column of lists."""
    column = table[name].combine_chunks()
    if pa.types.is_fixed_size_list(column.type):
        return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
    return column.to_numpy(zero_copy_only=False)
