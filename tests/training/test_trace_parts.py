"""The Parquet files of a trace: damaged ones, and those of another schema or header, are refused by name."""

import re
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.training.traced import WINDOW, edit, rewritten
from toolkit.errors import UserError
from toolkit.training.traces import Trace


@pytest.mark.parametrize("kind", ["positions", "rounds"])
def test_a_file_that_was_cut_short(copied, kind):
    part = sorted((copied / "parts").glob(f"{kind}-*"))[-1]
    for size in (-40, 300, 0):
        part.write_bytes(part.read_bytes()[:size])
        with pytest.raises(UserError, match=rf"{part}: not readable as Parquet .* Delete .*/\*-\w+\.parquet and run"):
            trace = Trace.open([copied])
            trace.windows(1.0) if kind == "positions" else trace.rounds()


@pytest.mark.parametrize(("key", "value"), [("draftsmith_trace_version", "1"), ("lenience", "[1.0, 2.0]")])
def test_a_file_of_another_schema(copied, key, value):
    part = sorted((copied / "parts").glob("positions-*"))[0]
    table = pq.ParquetFile(part).read()
    pq.write_table(table.replace_schema_metadata(table.schema.metadata | {key.encode(): value.encode()}), part)
    with pytest.raises(UserError, match=rf"{part}: '{key}' is {re.escape(value)}; expected .*Collect the trace again"):
        Trace.open([copied]).windows(1.0)


def without_place(table, depth):
    """The first window that goes on behind this depth loses it."""
    rows = table.select(["temperature", "request", "window", "depth"]).to_pylist()
    longer = next(row for row in rows if row["depth"] == depth + 1)
    kept = [row != longer | {"depth": depth} for row in rows]
    assert kept.count(False) == 1
    return table.filter(pa.array(kept))


COLUMNS = {
    "missing": (lambda table: table.drop_columns(["kl"]), "column 'kl' is missing"),
    "extra": (lambda table: table.append_column("colour", table["kl"]), "unknown column 'colour'"),
    "type": (
        lambda table: table.set_column(
            table.schema.get_field_index("rank_q"), "rank_q", table["rank_q"].cast(pa.int64())
        ),
        "column 'rank_q' is int64; expected int32",
    ),
    "another grid": (
        lambda table: table.set_column(
            table.schema.get_field_index("tv_T"), "tv_T", pa.array([[0.0]] * len(table), pa.list_(pa.float16(), 1))
        ),
        "column 'tv_T' is fixed_size_list",
    ),
    "empty values": (
        lambda table: table.set_column(
            table.schema.get_field_index("kl"), "kl", pa.array([None] * len(table), pa.float32())
        ),
        "column 'kl' has empty values",
    ),
    "states of one file": (lambda table: table.drop_columns(["draft_hidden"]), "column 'draft_hidden' is missing"),
    "states of another size": (
        lambda table: table.set_column(
            table.schema.get_field_index("draft_hidden"),
            "draft_hidden",
            pa.array([[0.0]] * len(table), pa.list_(pa.float16(), 1)),
        ),
        "column 'draft_hidden' is fixed_size_list.*not of one draft",
    ),
    "no states": (
        lambda table: table.set_column(table.schema.get_field_index("draft_hidden"), "draft_hidden", table["kl"]),
        "column 'draft_hidden' is float; expected lists of halffloat",
    ),
    "a gap": (lambda table: without_place(table, 1), "has depth 2 where 1 should follow.*do not belong together"),
    "no beginning": (lambda table: without_place(table, 0), "has depth 1 where 0 should follow"),
    "a place twice": (
        lambda table: pa.concat_tables([table, table.slice(0, 1)]),
        "has depth 0 where 1 should follow|where 0 should follow",
    ),
}


@pytest.mark.parametrize(("change", "message"), COLUMNS.values(), ids=COLUMNS)
def test_a_file_with_other_columns_or_places(copied, change, message):
    trace = Trace.open([copied])
    parts = [part for part in trace.parts("positions") if pq.ParquetFile(part).read()["temperature"][0].as_py() == 1.0]
    rewritten(parts[-1], change)
    with pytest.raises(UserError, match=rf"{parts[-1]}: .*({message}).*Collect the trace again"):
        trace.windows(1.0, hidden=True)


def test_a_file_of_rounds_with_other_columns(copied):
    trace = Trace.open([copied])
    rewritten(trace.parts("rounds")[0], lambda table: table.drop_columns(["verify_ms"]))
    with pytest.raises(UserError, match=rf"{trace.parts('rounds')[0]}: column 'verify_ms' is missing"):
        trace.rounds()


def test_a_batch_without_a_draft_has_no_states(copied, collected):
    """Its file of positions is empty, and nobody knew how large a state is."""
    trace = Trace.open([copied])
    part = next(p for p in trace.parts("positions") if pq.ParquetFile(p).read()["temperature"][0].as_py() == 1.0)
    lost = pq.ParquetFile(part).metadata.num_rows
    rewritten(part, lambda table: table.slice(0, 0).drop_columns(["draft_hidden"]))
    whole = Trace.open([collected.path]).windows(1.0, hidden=True)
    assert trace.windows(1.0, hidden=True).valid.sum() == whole.valid.sum() - lost


def test_a_header_with_shorter_windows_than_the_parts(copied):
    edit(copied / "trace.json", limit=WINDOW - 1)
    with pytest.raises(UserError, match=rf"positions-.*: has a window of {WINDOW} tokens, and key 'limit' of .* is 3"):
        Trace.open([copied]).windows(1.0)


def test_a_trace_that_holds_nothing_yet(copied):
    shutil.rmtree(copied / "parts")
    trace = Trace.open([copied])
    with pytest.raises(UserError, match=rf"{copied}: holds nothing yet\. Run its train/collect\.py"):
        trace.rounds()
    with pytest.raises(UserError, match="no drafted position at temperature 1"):
        trace.windows(1.0)


def test_rounds_without_positions_are_not_there(copied):
    trace = Trace.open([copied])
    before = trace.rounds().num_rows
    lost = trace.parts("positions")[0]
    with_it = pq.ParquetFile(trace.parts("rounds")[0]).metadata.num_rows
    lost.unlink()
    assert trace.rounds().num_rows == before - with_it > 0
