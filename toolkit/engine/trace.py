"""Decode traces: what was proposed and accepted, a row a drafted position, as Arrow columns.

The loop calls a sink once a round, before anything is committed. `Recorder` keeps the rows in memory and writes
one Parquet file; its schema carries a version, so that a reader can refuse what it does not know.
"""

from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from toolkit.engine.types import Batch, Draft, TargetView, Verdict

SCHEMA_VERSION = 1
SCHEMA = pa.schema(
    {
        "request": pa.int64(),
        "committed": pa.int64(),  # tokens of the row when the round began, prompt included
        "depth": pa.int32(),  # place in the window
        "token": pa.int64(),
        "accepted": pa.bool_(),
    },
    metadata={"draftsmith_trace_version": str(SCHEMA_VERSION)},
)


class TraceSink(Protocol):
    """Whoever wants to see the rounds. Called before the round's tokens are committed to `batch`."""

    def round(self, batch: Batch, draft: Draft, verdict: Verdict, target: TargetView) -> None: ...


class Recorder:
    """Keeps every drafted position in memory; `write` saves them."""

    def __init__(self) -> None:
        self._columns: dict[str, list[int | bool]] = {name: [] for name in SCHEMA.names}

    def round(self, batch: Batch, draft: Draft, verdict: Verdict, target: TargetView) -> None:
        requests, accepted = batch.requests.tolist(), verdict.accepted.tolist()
        counts, tokens = draft.valid.sum(1).tolist(), draft.tokens.tolist()
        for b, request in enumerate(requests):
            for depth in range(counts[b]):
                row = (request, int(batch.lengths[b]), depth, tokens[b][depth], depth < accepted[b])
                for name, value in zip(SCHEMA.names, row, strict=True):
                    self._columns[name].append(value)

    def table(self) -> pa.Table:
        return pa.table(self._columns, schema=SCHEMA)

    def write(self, path: Path) -> None:
        """Save as Parquet, whole or not at all."""
        beside = path.with_name(path.name + ".part")
        pq.write_table(self.table(), beside)
        beside.replace(path)
