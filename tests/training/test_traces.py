"""Reading traces: windows are what the rows say, and what is no trace of this pair is refused with a way out."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.training.traced import PROMPTS, WINDOW, edit
from toolkit import artifact
from toolkit.binding import shortened
from toolkit.engine.statistics import LENIENCE
from toolkit.errors import UserError
from toolkit.hub import Models
from toolkit.training import finish, from_traces
from toolkit.training.from_traces import TraceRecipe
from toolkit.training.traces import Costs, Trace


@pytest.fixture
def copy(collected, tmp_path):
    """Of the trace, to be damaged."""
    shutil.copytree(collected.path, tmp_path / "copy")
    return tmp_path / "copy"


def by_window(collected, temperature):
    """(request, window) -> its rows, in the order of depth."""
    found = {}
    for row in collected.rows().to_pylist():
        if row["temperature"] == temperature:
            found.setdefault((row["request"], row["window"]), []).append(row)
    return found


@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_windows_are_what_the_rows_say(collected, temperature):
    windows = Trace.open([collected.path]).windows(temperature, hidden=True)
    rows = by_window(collected, temperature)
    names = list(zip(windows.request.tolist(), windows.window.tolist(), strict=True))
    assert names == sorted(rows) and len(windows) == len(rows)
    assert windows.valid.shape == (len(rows), WINDOW) and windows.temperature == temperature
    assert windows.lenience.tolist() == list(LENIENCE)
    columns = [name for name in rows[names[0]][0] if name not in ("temperature", "request", "window", "depth")]
    assert {"log_p", "kl", "rank_q", "accept_T", "tv_T", "draft_hidden"} < set(columns)
    for i, name in enumerate(names):
        own = rows[name]
        assert windows.valid[i].tolist() == [place < len(own) for place in range(WINDOW)]
        assert windows.committed[i] == own[0]["committed"]
        for column in columns:
            if column == "committed":
                continue
            values = getattr(windows, column)[i]
            np.testing.assert_array_equal(values[: len(own)], np.array([row[column] for row in own], values.dtype))
            assert not values[len(own) :].any(), "padding is zero"
    assert any(len(own) < WINDOW for own in rows.values()), "nothing here was padded"


@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_windows_follow_each_other(collected, temperature):
    """K_prev from kl and accepted alone, the long way."""
    windows = Trace.open([collected.path]).windows(temperature)
    rows = by_window(collected, temperature)
    place = {name: i for i, name in enumerate(sorted(rows))}
    lengths = set()
    for (request, number), i in place.items():
        assert windows.following[i] == place.get((request, number + 1), -1)
        seen = []
        for row in rows.get((request, number - 1), []):
            seen.append(row["kl"])
            if not row["accepted"]:
                break
        lengths.add(len(seen))
        assert windows.k_prev[i] == pytest.approx(np.mean(seen) if seen else 0.0, abs=1e-5)
    assert len(lengths) > 2, "all previous windows were alike"
    assert windows.draft_hidden is None


def test_those_of_some_requests(collected):
    windows = Trace.open([collected.path]).windows(1.0)
    known = np.unique(windows.request)
    assert len(known) == PROMPTS
    chosen = np.isin(windows.request, known[1::2])
    some = windows.of(chosen)
    assert len(some) == chosen.sum() and set(some.request.tolist()) == set(known[1::2].tolist())
    before = np.flatnonzero(chosen)  # row of `some` -> row of `windows`
    for i, following in enumerate(some.following):
        expected = windows.following[before[i]]
        assert (before[following] if following >= 0 else -1) == expected
    assert np.array_equal(some.k_prev, windows.k_prev[chosen]) and np.array_equal(some.kl, windows.kl[chosen])
    assert some.temperature == 1.0 and np.array_equal(some.lenience, windows.lenience)
    assert len(windows.of(np.zeros(len(windows), bool))) == 0


def test_rounds_cost_what_they_did():
    costs = Costs([0.0, 2.0, 4.0], [10.0, 11.0, 12.0], 1.0, [3, 3, 3], 1, 1, {})
    assert costs.round_ms(1, 2) == 4.0 + 11.0 + 1.0
    assert costs.round_ms(np.array([0, 1, 2]), np.array([1, 2, 2])).tolist() == [13.0, 16.0, 17.0]


def test_costs_that_do_not_fit(copy):
    trace, path = Trace.open([copy]), copy / "costs.json"
    measured = json.loads(path.read_text())["costs"]
    short = measured["0"] | {"draft_ms": measured["0"]["draft_ms"][:-1]}
    edit(path, costs=measured | {"0": short})
    with pytest.raises(
        UserError,
        match=rf"costs\.json: key 'costs\.0' has costs of windows up to 3; expected up to {WINDOW}\. Delete",
    ):
        trace.costs(1.0)
    edit(path, costs={"0": measured["0"] | {"colour": "red"}})
    with pytest.raises(UserError, match=r"costs\.json: costs\.0: .*colour"):
        trace.costs(0.0)
    for content in ("{", "[]", '{"format": 2, "costs": []}'):
        path.write_text(content)
        with pytest.raises(UserError, match=r"costs\.json: .*Delete it and run .*with one process"):
            trace.costs(1.0)
    path.unlink()
    assert trace.known_costs() == {}
    with pytest.raises(UserError, match=r"costs\.json: is missing.*with one process"):
        trace.costs(1.0)


def test_costs_are_of_one_temperature(copy):
    path = copy / "costs.json"
    measured = json.loads(path.read_text())["costs"]
    assert measured.keys() == {"0", "1"}
    edit(path, costs={"0": measured["0"] | {"host_ms": 5.0}, "1": measured["1"] | {"host_ms": 7.0}})
    trace = Trace.open([copy])
    assert (trace.costs(0.0).host_ms, trace.costs(1.0).host_ms) == (5.0, 7.0)
    edit(path, costs={"0": measured["0"]})
    with pytest.raises(UserError, match=r"costs at temperature 0, and none at 1, .*Delete it and run .* one process"):
        trace.costs(1.0)
    path.write_text(json.dumps(measured["1"]))  # as it was when there was one temperature
    with pytest.raises(UserError, match=r"costs\.json: key 'format' is missing; expected 2, .*Delete it and run"):
        trace.costs(1.0)


def split(collected, directory):
    """Its prompts in two directories, half in each."""
    paths = [directory / "one", directory / "two"]
    for path in paths:
        shutil.copytree(collected.path, path)
    requests = sorted({row["request"] for row in collected.rows().to_pylist()})
    for path, unwanted in zip(paths, (requests[::2], requests[1::2]), strict=True):
        for part in (path / "parts").iterdir():
            table = pq.ParquetFile(part).read()
            kept = [value not in unwanted for value in table["request"].to_pylist()]
            pq.write_table(table.filter(pa.array(kept)), part)
    return paths


def test_several_directories_are_one_trace(collected, tmp_path):
    one, two = split(collected, tmp_path)
    together = Trace.open([str(one), two])
    whole = Trace.open([collected.path])
    for name in ("request", "token", "following", "k_prev", "accept_T", "draft_hidden"):
        here, there = (getattr(trace.windows(1.0, hidden=True), name) for trace in (together, whole))
        np.testing.assert_array_equal(here, there, err_msg=name)
    assert together.rounds().num_rows == whole.rounds().num_rows
    (one / "costs.json").unlink()
    assert together.costs(1.0) == whole.costs(1.0)  # of the directory that has them
    edit(two / "trace.json", hidden=[])
    assert len(together.windows(1.0)) == len(whole.windows(1.0))
    with pytest.raises(UserError, match=rf"{two}.trace\.json: key 'hidden' is \[\].*trace\.hidden=\[draft\]"):
        together.windows(1.0, hidden=True)


def test_the_same_prompts_twice(collected, copy):
    for directories in ([collected.path, copy], [copy, copy]):
        with pytest.raises(UserError, match=r"has request \d+, as .* has.*leave one directory out"):
            Trace.open(directories).windows(1.0)


OTHER_PAIRS = {
    "draft": (
        "binds",
        lambda header: {**header["binds"], "draft": header["binds"]["draft"] | {"fingerprint": "0" * 64}},
    ),
    "target": ("target", lambda header: header["target"] | {"name": "another"}),
    "grid": ("lenience", lambda header: [1.0, 2.0]),
    "window": ("limit", lambda header: 5),
}


@pytest.mark.parametrize(("key", "changed"), OTHER_PAIRS.values(), ids=OTHER_PAIRS)
def test_other_pairs_are_not_read_together(collected, copy, key, changed):
    edit(copy / "trace.json", **{key: changed(collected.header())})
    with pytest.raises(UserError, match=rf"{copy}.trace\.json: key '{key}' is .* must be of one target and one draft"):
        Trace.open([collected.path, copy])


HEADERS = {
    "another version": (lambda path: edit(path, schema_version=99), r"'schema_version' is 99; .* reads 2\. Collect"),
    "no version": (lambda path: edit(path, schema_version=None), "'schema_version' is None"),
    "a list": (lambda path: path.write_text("[]"), "'schema_version' is None"),
    "no JSON": (lambda path: path.write_text('{"schema_version": 2,'), "not readable as JSON"),
    "no text": (lambda path: path.write_bytes(b"\xff\xfe\x00"), "not readable as JSON"),
    "an unknown key": (lambda path: edit(path, colour="red"), "colour"),
    "a word for a number": (lambda path: edit(path, limit="four"), "limit"),
    "gone": (Path.unlink, r"no trace\.json, so this is no trace"),
}


@pytest.mark.parametrize(("damage", "message"), HEADERS.values(), ids=HEADERS)
def test_headers_that_are_none(copy, damage, message):
    damage(copy / "trace.json")
    with pytest.raises(UserError, match=rf"{copy}.*{message}"):
        Trace.open([copy])


def test_a_header_without_a_key(copy):
    header = json.loads((copy / "trace.json").read_text())
    del header["binds"]
    (copy / "trace.json").write_text(json.dumps(header))
    with pytest.raises(UserError, match=r"trace\.json: .*binds"):
        Trace.open([copy])


def test_no_directory_at_all():
    with pytest.raises(UserError, match="no trace: expected one directory or more"):
        Trace.open([])


@pytest.mark.parametrize("kind", ["positions", "rounds"])
def test_a_file_that_was_cut_short(copy, kind):
    part = sorted((copy / "parts").glob(f"{kind}-*"))[-1]
    for size in (-40, 300, 0):
        part.write_bytes(part.read_bytes()[:size])
        with pytest.raises(UserError, match=rf"{part}: not readable as Parquet .* Delete .*/\*-\w+\.parquet and run"):
            trace = Trace.open([copy])
            trace.windows(1.0) if kind == "positions" else trace.rounds()


@pytest.mark.parametrize(("key", "value"), [("draftsmith_trace_version", "1"), ("lenience", "[1.0, 2.0]")])
def test_a_file_of_another_schema(copy, key, value):
    part = sorted((copy / "parts").glob("positions-*"))[0]
    table = pq.ParquetFile(part).read()
    pq.write_table(table.replace_schema_metadata(table.schema.metadata | {key.encode(): value.encode()}), part)
    with pytest.raises(UserError, match=rf"{part}: '{key}' is {re.escape(value)}; expected .*Collect the trace again"):
        Trace.open([copy]).windows(1.0)


def rewritten(part, change):
    table = pq.ParquetFile(part).read()
    pq.write_table(change(table), part)


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
def test_a_file_with_other_columns_or_places(copy, change, message):
    trace = Trace.open([copy])
    parts = [part for part in trace.parts("positions") if pq.ParquetFile(part).read()["temperature"][0].as_py() == 1.0]
    rewritten(parts[-1], change)
    with pytest.raises(UserError, match=rf"{parts[-1]}: .*({message}).*Collect the trace again"):
        trace.windows(1.0, hidden=True)


def test_a_file_of_rounds_with_other_columns(copy):
    trace = Trace.open([copy])
    rewritten(trace.parts("rounds")[0], lambda table: table.drop_columns(["verify_ms"]))
    with pytest.raises(UserError, match=rf"{trace.parts('rounds')[0]}: column 'verify_ms' is missing"):
        trace.rounds()


def test_a_batch_without_a_draft_has_no_states(copy, collected):
    """Its file of positions is empty, and nobody knew how large a state is."""
    trace = Trace.open([copy])
    part = next(p for p in trace.parts("positions") if pq.ParquetFile(p).read()["temperature"][0].as_py() == 1.0)
    lost = pq.ParquetFile(part).metadata.num_rows
    rewritten(part, lambda table: table.slice(0, 0).drop_columns(["draft_hidden"]))
    whole = Trace.open([collected.path]).windows(1.0, hidden=True)
    assert trace.windows(1.0, hidden=True).valid.sum() == whole.valid.sum() - lost


def test_a_header_with_shorter_windows_than_the_parts(copy):
    edit(copy / "trace.json", limit=WINDOW - 1)
    with pytest.raises(UserError, match=rf"positions-.*: has a window of {WINDOW} tokens, and key 'limit' of .* is 3"):
        Trace.open([copy]).windows(1.0)


def test_a_trace_that_holds_nothing_yet(copy):
    shutil.rmtree(copy / "parts")
    trace = Trace.open([copy])
    with pytest.raises(UserError, match=rf"{copy}: holds nothing yet\. Run its train/collect\.py"):
        trace.rounds()
    with pytest.raises(UserError, match="no drafted position at temperature 1"):
        trace.windows(1.0)


def test_rounds_without_positions_are_not_there(copy):
    trace = Trace.open([copy])
    before = trace.rounds().num_rows
    lost = trace.parts("positions")[0]
    with_it = pq.ParquetFile(trace.parts("rounds")[0]).metadata.num_rows
    lost.unlink()
    assert trace.rounds().num_rows == before - with_it > 0


def test_what_was_not_collected(copy):
    trace = Trace.open([copy])
    with pytest.raises(UserError, match=r"key 'temperature' is 0\.7, and the trace was collected at 0, 1"):
        trace.windows(0.7)
    edit(copy / "trace.json", temperatures=[0.0, 0.7, 1.0])  # asked for, and stopped before the first batch
    with pytest.raises(UserError, match=r"no drafted position at temperature 0\.7"):
        trace.windows(0.7)
    edit(copy / "trace.json", hidden=[])
    with pytest.raises(UserError, match=r"key 'hidden' is \[\]: the draft's hidden states were not kept"):
        Trace.open([copy]).windows(1.0, hidden=True)


def recipe_of(directory, out):
    return TraceRecipe(traces=[str(directory)], method="a test", out=str(out))


def learn(directory, out):
    """An artifact that composes the trace's pair with windows of three, put in place."""
    recipe = recipe_of(directory, out)
    command = {"path": "dummy.yaml", "command": "python train/dummy.py dummy.yaml"}
    return from_traces.put(
        recipe,
        command,
        Trace.open(recipe.traces),
        kind="dummy",
        pieces={"length": {"type": "fixed", "k": 3}},
        figures={"records": 1},
        fill=lambda path: (path / "policy.json").write_text("{}"),
    )


def test_an_artifact_is_made_where_the_model_is_not_at_hand(trace_alone, tmp_path, capsys):
    assert len(Trace.open([trace_alone]).windows(1.0)) > 0
    manifest = learn(trace_alone, tmp_path / "learned")
    assert manifest == artifact.verify(tmp_path / "learned")
    assert list(manifest.smoke) == ["skipped"]
    assert "target or draft not at hand" in manifest.smoke["skipped"] and "gone" in manifest.smoke["skipped"]
    said = capsys.readouterr().err
    assert "not tried" in said and f"draftsmith check {tmp_path / 'learned'}" in said


def test_an_artifact_is_tried_where_the_model_is_at_hand(collected, tmp_path):
    manifest = learn(collected.path, tmp_path / "learned")
    assert manifest == artifact.verify(tmp_path / "learned")
    assert manifest.smoke["prompts"] == 4 and manifest.smoke["tokens"] > 0 < manifest.smoke["proposed"]
    assert manifest.provides == ["length"] and manifest.binds == collected.header()["binds"]
    assert manifest.composes["length"] == {"type": "fixed", "k": 3} and manifest.files.keys() == {"policy.json"}
    assert len(manifest.data["fingerprint"]) == 64


def test_the_pair_is_loaded_once(collected, tmp_path, monkeypatch):
    """Compared with the trace and tried as one: the second time would cost as much as the first."""
    made = []

    class Counted(Models):
        def __init__(self, *arguments):
            made.append(arguments)
            super().__init__(*arguments)

    for module in (from_traces, finish):
        monkeypatch.setattr(module, "Models", Counted)
    assert learn(collected.path, tmp_path / "learned").smoke["prompts"] == 4
    assert len(made) == 1


@pytest.mark.parametrize(("role", "key"), [("target", "fingerprint"), ("target", "adapters"), ("draft", "fingerprint")])
def test_another_pair_than_the_traced_one_is_refused(copy, tmp_path, role, key):
    """It is there, and under the same name; only its weights are others."""
    binds = json.loads((copy / "trace.json").read_text())["binds"]
    here = binds[role][key]
    binds[role][key] = ["ab" * 32] if key == "adapters" else "ab" * 32
    edit(copy / "trace.json", binds=binds)
    shown = shortened(here) if key == "adapters" else shortened([here])
    with pytest.raises(
        UserError,
        match=rf"trace\.json: key 'binds\.{role}\.{key}' is abababababab\.\.\., .* has {re.escape(shown)}: not",
    ):
        learn(copy, tmp_path / "learned")
    assert not (tmp_path / "learned").exists()


def test_a_draft_that_is_there_and_broken_is_an_error(copy, tmp_path):
    header = json.loads((copy / "trace.json").read_text())
    header["proposer"]["model"]["draft_from"] = {"layers": [99]}
    edit(copy / "trace.json", proposer=header["proposer"])
    with pytest.raises(UserError, match="99"):
        learn(copy, tmp_path / "learned")
    gone = {"type": "eagle3", "head": str(tmp_path / "gone")}
    edit(copy / "trace.json", proposer=gone)
    assert "gone: not there" in learn(copy, tmp_path / "learned").smoke["skipped"]
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "config.json").write_text("{")
    with pytest.raises(UserError, match="not readable as JSON"):
        learn(copy, tmp_path / "learned")


def test_what_is_there_is_finished_if_it_is_of_these_records(copy, tmp_path):
    out = tmp_path / "learned"
    recipe = recipe_of(copy, out)
    assert not from_traces.finished(out, recipe, Trace.open([copy]))
    learn(copy, out)
    assert from_traces.finished(out, recipe, Trace.open([copy]))
    costs = json.loads((copy / "costs.json").read_text())
    edit(copy / "costs.json", costs=costs["costs"] | {"0": costs["costs"]["0"] | {"host_ms": 123.0}})
    assert from_traces.finished(out, recipe, Trace.open([copy])), "learned from temperature 1"
    edit(copy / "costs.json", costs=costs["costs"] | {"1": costs["costs"]["1"] | {"host_ms": 123.0}})
    with pytest.raises(UserError, match=rf"{out}: was learned from other costs than .*{copy} has now.*Delete {out}"):
        from_traces.finished(out, recipe, Trace.open([copy]))
    edit(copy / "costs.json", **costs)
    part = Trace.open([copy]).parts("positions")[0]
    rewritten(part, lambda table: table.slice(0, len(table) - 1))
    with pytest.raises(UserError, match=rf"{out}: was learned from other positions than .*{copy} has now"):
        from_traces.finished(out, recipe, Trace.open([copy]))
