"""The Parquet files of a trace, read: each with the columns and the lenience grid that its header promises, or refused.

A file is one batch of requests at one temperature, so a window is never in two of them.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from toolkit.engine.trace import metadata, places_schema, rounds_schema
from toolkit.errors import UserError

HEADER, PARTS = "trace.json", "parts"
PLACES, ROUNDS = "positions", "rounds"
AGAIN = "Collect the trace again (train/collect.py), or leave this directory out."
_STATES = ("draft_hidden", "target_hidden")  # may be there or not, of any size


def read(part: Path, kind: str, lenience: Sequence[float], states: Sequence[str] = ()) -> pa.Table:
    """PLACES or ROUNDS of one file, with these of the kept states. UserError names the file and what is wrong."""
    try:
        file = pq.ParquetFile(part)
        table = file.read([name for name in file.schema_arrow.names if name not in _STATES or name in states])
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"{part}: not readable as Parquet ({error}). Delete {part.parent}/*-{part.name.partition('-')[2]} and run "
            "the same train/collect.py command again."
        ) from None
    found = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    for key, value in metadata(lenience).items():
        if found.get(key) != value:
            raise UserError(f"{part}: '{key}' is {found.get(key)}; expected {value}, as {HEADER} has it. {AGAIN}")
    _check_columns(part, table, places_schema(lenience, {}) if kind == PLACES else rounds_schema(lenience), states)
    return table


def joined(parts: Sequence[Path], tables: Sequence[pa.Table]) -> pa.Table:
    """One table of all; a batch in which nothing was drafted has no states, nor a size of them."""
    filled = [(part, table) for part, table in zip(parts, tables, strict=True) if table.num_rows]
    for part, table in filled:
        for column in table.schema:
            if column.type != (first := filled[0][1].schema.field(column.name).type):
                raise UserError(
                    f"{part}: column '{column.name}' is {column.type}, and {filled[0][0]} has {first}: these are not "
                    f"of one draft. {AGAIN}"
                )
    return pa.concat_tables([table.select(filled[0][1].schema.names) for _, table in filled])


def check_depths(part: Path, table: pa.Table, limit: int) -> None:
    """Refuse windows that are longer than the header says, or that lack a place."""
    if not table.num_rows:
        return
    request, window, depth = (table[name].to_numpy().astype(np.int64) for name in ("request", "window", "depth"))
    if (deepest := int(depth.max()) + 1) > limit:
        raise UserError(
            f"{part}: has a window of {deepest} tokens, and key 'limit' of {HEADER} is {limit}: header and parts do "
            f"not belong together. {AGAIN}"
        )
    order = np.lexsort((depth, window, request))
    request, window, depth = request[order], window[order], depth[order]
    same = (np.diff(request) == 0) & (np.diff(window) == 0)
    expected = np.r_[0, np.where(same, depth[:-1] + 1, 0)]
    if (wrong := np.flatnonzero(depth != expected)).size:
        at = wrong[0]
        raise UserError(
            f"{part}: window {window[at]} of request {request[at]} has depth {depth[at]} where {expected[at]} should "
            f"follow: a place is missing, or there twice. Header and parts do not belong together. {AGAIN}"
        )


def check_once(parts: Sequence[Path], tables: Sequence[pa.Table]) -> None:
    """Refuse a request that is in two files: its windows would be mixed up."""
    seen: dict[int, int] = {}
    for number, table in enumerate(tables):
        for request in pc.unique(table["request"]).to_pylist():
            if (other := seen.setdefault(request, number)) != number:
                raise UserError(
                    f"{parts[number]}: has request {request}, as {parts[other]} has. Traces that are learned from "
                    "together must be of different prompts: leave one directory out."
                )


def _check_columns(part: Path, table: pa.Table, expected: pa.Schema, states: Sequence[str]) -> None:
    names = table.schema.names
    needed = [*expected.names, *(states if table.num_rows else ())]
    for name in needed:
        if names.count(name) != 1:
            raise UserError(f"{part}: column '{name}' is {'there twice' if name in names else 'missing'}. {AGAIN}")
    for column in table.schema:
        if column.name in states:
            if not pa.types.is_fixed_size_list(column.type) or column.type.value_type != pa.float16():
                raise UserError(
                    f"{part}: column '{column.name}' is {column.type}; expected lists of halffloat, all of one size. "
                    f"{AGAIN}"
                )
        elif column.name not in expected.names:
            raise UserError(f"{part}: unknown column '{column.name}'. {AGAIN}")
        elif column.type != (kind := expected.field(column.name).type):
            raise UserError(f"{part}: column '{column.name}' is {column.type}; expected {kind}. {AGAIN}")
        elif table[column.name].null_count:
            raise UserError(f"{part}: column '{column.name}' has empty values. {AGAIN}")
