"""Reading traces: windows are what the rows say, and what is no trace of this pair is refused with a way out."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.training.traced import PROMPTS, WINDOW, edit
from toolkit.engine.statistics import LENIENCE
from toolkit.errors import UserError
from toolkit.training.traces import Costs, Trace


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


def test_costs_that_do_not_fit(copied):
    trace, path = Trace.open([copied]), copied / "costs.json"
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


def test_costs_are_of_one_temperature(copied):
    path = copied / "costs.json"
    measured = json.loads(path.read_text())["costs"]
    assert measured.keys() == {"0", "1"}
    edit(path, costs={"0": measured["0"] | {"host_ms": 5.0}, "1": measured["1"] | {"host_ms": 7.0}})
    trace = Trace.open([copied])
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


def test_the_same_prompts_twice(collected, copied):
    for directories in ([collected.path, copied], [copied, copied]):
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
def test_other_pairs_are_not_read_together(collected, copied, key, changed):
    edit(copied / "trace.json", **{key: changed(collected.header())})
    with pytest.raises(
        UserError, match=rf"{copied}.trace\.json: key '{key}' is .* must be of one target and one draft"
    ):
        Trace.open([collected.path, copied])


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
def test_headers_that_are_none(copied, damage, message):
    damage(copied / "trace.json")
    with pytest.raises(UserError, match=rf"{copied}.*{message}"):
        Trace.open([copied])


def test_a_header_without_a_key(copied):
    header = json.loads((copied / "trace.json").read_text())
    del header["binds"]
    (copied / "trace.json").write_text(json.dumps(header))
    with pytest.raises(UserError, match=r"trace\.json: .*binds"):
        Trace.open([copied])


def test_no_directory_at_all():
    with pytest.raises(UserError, match="no trace: expected one directory or more"):
        Trace.open([])


def test_what_was_not_collected(copied):
    trace = Trace.open([copied])
    with pytest.raises(UserError, match=r"key 'temperature' is 0\.7, and the trace was collected at 0, 1"):
        trace.windows(0.7)
    edit(copied / "trace.json", temperatures=[0.0, 0.7, 1.0])  # asked for, and stopped before the first batch
    with pytest.raises(UserError, match=r"no drafted position at temperature 0\.7"):
        trace.windows(0.7)
    edit(copied / "trace.json", hidden=[])
    with pytest.raises(UserError, match=r"key 'hidden' is \[\]: the draft's hidden states were not kept"):
        Trace.open([copied]).windows(1.0, hidden=True)
