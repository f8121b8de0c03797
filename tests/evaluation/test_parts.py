"""Parts become rows of records.jsonl once, wherever merging is cut short."""

from pathlib import Path

import pytest

from tests.evaluation.rows import row
from toolkit.evaluation import parts
from toolkit.evaluation.ranks import Alone
from toolkit.evaluation.records import RecordFile, encode, read

ROWS = [row(prompt=f"p{i}", set="quality") for i in range(6)]


@pytest.fixture
def records(tmp_path):
    """One row of its own, and parts of two processes, of two sessions, which share a row."""
    found = RecordFile(tmp_path / "records.jsonl")
    found.append(ROWS[:1])
    for session, rows in (("a", ROWS[1:4]), ("b", ROWS[3:])):
        parts.own(found.path, session, Alone(False)).append(rows)
    return found


def whole(records):
    assert RecordFile(records.path).rows == records.rows == ROWS
    assert not (records.path.parent / parts.PARTS).exists()


def test_all_parts_are_taken_in(records):
    parts.merge(records)
    whole(records)
    before = records.path.stat()
    parts.merge(records)
    assert records.path.stat() == before


@pytest.mark.parametrize("step", ["replace", "unlink", "second unlink", "rmdir"])
def test_merging_that_is_cut_short_is_done_again(records, monkeypatch, step):
    """Before the rename, and before either part is removed."""
    name = step.split()[-1]
    real, left = getattr(Path, name), [1 if step.startswith("second") else 0]

    def dies(self, *arguments, **options):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return real(self, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Path, name, dies)
        with pytest.raises(KeyboardInterrupt):
            parts.merge(records)
    again = RecordFile(records.path)
    assert again.rows == (ROWS[:1] if step == "replace" else ROWS)
    parts.merge(again)
    whole(again)


def test_a_torn_line_of_a_part_costs_that_row_alone(records, capsys):
    folder = records.path.parent / parts.PARTS
    torn = folder / "a-0.jsonl"
    torn.write_bytes(torn.read_bytes()[:-7])
    parts.merge(records)
    assert [one.prompt_id for one in records.rows] == ["p0", "p1", "p2", "p3", "p4", "p5"]  # p3 is in the other one
    assert "a-0.jsonl line 3 is torn" in capsys.readouterr().err
    assert (records.path.parent / "records.corrupt.jsonl").read_bytes() == encode(ROWS[3])[:-7] + b"\n"


def test_without_parts_nothing_is_written(tmp_path):
    records = RecordFile(tmp_path / "records.jsonl")
    parts.merge(records)
    assert not list(tmp_path.iterdir())


def test_parts_that_are_taken_in_meanwhile_are_none(tmp_path, monkeypatch):
    """What a report or a validation meets beside a run that merges: the folder goes between two looks."""

    def gone(folder, pattern):
        raise FileNotFoundError(folder)

    monkeypatch.setattr(Path, "glob", gone)
    assert parts.left(tmp_path / "parts") == []


def test_a_part_that_was_taken_in_since_it_was_seen_has_no_rows(tmp_path):
    assert read(tmp_path / "parts" / "gone.jsonl").rows == []
