"""records.jsonl survives a kill at any byte, and a damaged line costs that line only."""

import json

import pytest

from tests.evaluation.rows import row
from toolkit.errors import UserError
from toolkit.evaluation.records import SCHEMA_VERSION, RecordFile, encode, parse


@pytest.fixture
def path(tmp_path):
    return tmp_path / "records.jsonl"


ROWS = [row(prompt=f"p{i}", text="line\n\u2028 ümläut \x00 \ufffd") for i in range(3)]


def written(path, rows=ROWS):
    RecordFile(path).append(rows)
    return path.read_bytes()


def test_rows_come_back_as_they_were(path):
    written(path)
    assert RecordFile(path).rows == ROWS


def test_torn_in_the_last_line(path, capsys):
    whole = written(path)
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    for cut in range(last + 1, len(whole) - 1, 37):
        path.write_bytes(whole[:cut])
        assert RecordFile(path).rows == ROWS[:2]
        assert "line 3 is torn" in capsys.readouterr().err
        assert path.read_bytes() == whole[:last]


def test_a_row_that_lacks_only_its_newline_is_whole(path):
    whole = written(path)
    path.write_bytes(whole[:-1])
    assert RecordFile(path).rows == ROWS
    assert path.read_bytes() == whole


def test_what_is_appended_after_a_torn_line_stands_alone(path):
    path.write_bytes(written(path)[:-20])
    records = RecordFile(path)
    records.append([ROWS[2]])
    assert RecordFile(path).rows == ROWS


@pytest.mark.parametrize("damage", [b"\x00\x00\x00", b"[1, 2]", b'{"set": "speed"}', b"\xff\xfe", b'{"a": '])
def test_a_corrupt_line_is_named_and_set_aside(path, capsys, damage):
    lines = written(path).splitlines(keepends=True)
    path.write_bytes(lines[0] + damage + b"\n" + lines[2])
    assert RecordFile(path).rows == [ROWS[0], ROWS[2]]
    assert f"{path} line 2 is corrupt" in capsys.readouterr().err
    assert (path.parent / "records.corrupt.jsonl").read_bytes() == damage + b"\n"
    assert path.read_bytes() == lines[0] + lines[2]
    RecordFile(path)
    assert capsys.readouterr().err == ""


def test_rows_of_another_schema_are_refused(path):
    path.write_bytes(encode(ROWS[0]).replace(b'"schema_version": %d' % SCHEMA_VERSION, b'"schema_version": 99'))
    with pytest.raises(UserError, match="schema version 99"):
        RecordFile(path)


def test_rows_that_are_older_than_a_field_are_read(path):
    later = ("sources", "routed", "routing_seconds")
    older = {key: value for key, value in json.loads(encode(ROWS[0])).items() if key not in later}
    assert parse(json.dumps(older).encode()) == ROWS[0]
    del older["batch_key"]
    with pytest.raises(ValueError, match="keys differ in .'batch_key'."):
        parse(json.dumps(older).encode())


def test_keep_leaves_one_row_an_item(path):
    records = RecordFile(path)
    records.append([*ROWS, ROWS[0]])
    records.keep(lambda r: r.prompt_id != "p1")
    assert RecordFile(path).rows == [ROWS[0], ROWS[2]]


def test_not_a_number_is_null():
    line = encode(row(first_token_seconds=float("nan")))
    assert json.loads(line)["first_token_seconds"] is None
    assert parse(line).first_token_seconds is None
