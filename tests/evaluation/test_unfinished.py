"""`draftsmith validate` of a run that has not ended: unfinished is not wrong, and what is wrong is still said."""

import json

import pytest

from tests.evaluation.several import finish
from toolkit import cli

RUN = ["methods=[ngram,topk]", "speed.batch=3"]
ALL = 3 * 3 + 2 * 5  # rows: methods x speed prompts, and baseline and topk on all five


def validate(path, capsys, *options):
    """-> exit code, lines."""
    capsys.readouterr()
    code = cli.main(["validate", str(path), *options])
    return code, capsys.readouterr().out.splitlines()


def unfinished(tiny, rows, of=ALL):
    how = f"resume with `python -m eval {tiny.out / 'recipe.yaml'}`"
    return f"unfinished, as it is under way or was killed: {rows} of {of} rows; {how}"


@pytest.fixture
def killed(tiny):
    """In the second method's batch, whose last row is torn; the third one's and the quality set are not begun."""
    tiny.run(*RUN)
    lines = tiny.records.read_bytes().splitlines(keepends=True)
    tiny.records.write_bytes(b"".join(lines[3:8])[:-50])  # the baseline's own batch is not among them
    (tiny.out / "results.json").unlink()
    return tiny


@pytest.mark.parametrize("options", [[], ["--strict"]])
def test_a_run_that_was_killed_lacks_rows_and_is_not_wrong(killed, capsys, options):
    code, lines = validate(killed.out, capsys, *options)
    assert code == 0, lines
    assert "4 rows of 2 methods; nothing wrong; the last line is torn" in lines[-1]
    assert lines[-1].endswith(unfinished(killed, 4))


def test_it_is_whole_once_it_is_resumed_and_then_extended(killed, capsys):
    assert killed.run(*RUN) == 0
    code, lines = validate(killed.out, capsys, "--strict")
    assert code == 0 and lines[-1].endswith(f"{ALL} rows of 3 methods; nothing wrong")
    before = (killed.out / "results.json").read_bytes()
    assert killed.run(*RUN, "seeds=[0,1]", "speed.repeats=2") == 0  # greedy: another repeat, and no other seed
    (killed.out / "results.json").write_bytes(before)  # killed before it said so
    killed.records.write_text("".join(killed.records.read_text().splitlines(keepends=True)[:-2]))
    code, lines = validate(killed.out, capsys, "--strict")
    assert code == 0 and lines[-1].endswith(unfinished(killed, ALL + 7, of=ALL + 9))


def test_what_is_wrong_with_it_is_said_all_the_same(killed, capsys):
    first, *others = killed.records.read_bytes().splitlines(keepends=True)
    wrong = json.loads(first) | {"accepted": 99}
    killed.records.write_bytes(b"".join([json.dumps(wrong).encode() + b"\n", *others]))
    code, lines = validate(killed.out, capsys, "--strict")
    assert code == 1 and any("key 'accepted'" in line for line in lines)
    assert lines[-1].endswith(unfinished(killed, 4))


def test_the_same_rows_of_a_run_that_has_ended_are_wrong(killed, capsys):
    """And where nothing says whose they are."""
    results = killed.out / "results.json"
    rows = killed.records.read_bytes()
    killed.run(*RUN)
    killed.records.write_bytes(rows)
    marker = json.loads((killed.out / "run.json").read_text())
    assert json.loads(results.read_text())["sessions"] == marker["sessions"]
    code, lines = validate(killed.out, capsys, "--strict")
    assert code == 1 and any("expected a row of the baseline beside" in line for line in lines)
    assert any("expected 3 rows of this batch_key, got 1" in line for line in lines)
    assert any("the last line is torn" in line for line in lines)
    results.unlink()
    (killed.out / "run.json").unlink()
    assert validate(killed.records, capsys, "--strict")[0] == 1


def test_a_run_that_was_killed_at_once_has_no_rows(killed, capsys):
    killed.records.unlink()
    code, lines = validate(killed.out, capsys, "--strict")
    assert code == 0 and lines[-1].endswith(unfinished(killed, 0))


def test_one_that_an_older_version_began_says_what_it_can(killed, capsys):
    marker = json.loads((killed.out / "run.json").read_text())
    for session in marker["sessions"]:
        del session["rows"]
    (killed.out / "run.json").write_text(json.dumps(marker))
    (killed.out / "recipe.yaml").unlink()
    _, lines = validate(killed.out, capsys)
    assert lines[-1].endswith("was killed: 4 rows; its command goes on from here")


def test_a_part_is_called_one_and_wants_no_baseline(tiny, capsys):
    """Where it is, and copied elsewhere."""
    finish([str(tiny.recipe), *RUN], 1)
    rows = tiny.records.read_bytes().splitlines(keepends=True)
    parts = tiny.out / "parts"
    parts.mkdir()
    session = json.loads((tiny.out / "run.json").read_text())["sessions"][0]["id"]
    part = parts / f"{session}-1.jsonl"
    part.write_bytes(b"".join(rows[-5:]) + rows[-1][:30])  # topk's alone, and a torn line
    tiny.records.write_bytes(b"".join(rows[:-4]))  # a merge was cut short: one row is in both
    (tiny.out / "results.json").unlink()
    copied = tiny.out.parent / part.name
    copied.write_bytes(part.read_bytes())
    for path in (part, copied):
        code, lines = validate(path, capsys, "--strict")
        assert code == 0 and len(lines) == 1, lines
        assert "5 rows of 1 methods; nothing wrong" in lines[0]
        assert "a part, as one process of several wrote it" in lines[0] and "the last line is torn" in lines[0]
    code, lines = validate(tiny.out, capsys, "--strict")
    assert code == 0 and lines[-1].startswith(f"{part}: 5 rows")
    assert lines[-2].endswith(unfinished(tiny, ALL)), lines


def test_what_is_wrong_with_a_part_is_said(killed, capsys):
    parts = killed.out / "parts"
    parts.mkdir()
    row = json.loads(killed.records.read_bytes().splitlines()[0])
    (parts / "a-1.jsonl").write_text(json.dumps(row | {"rounds": 99, "prompt_id": "p9"}) + "\n")
    code, lines = validate(killed.out, capsys, "--strict")
    assert code == 1 and any(line.startswith(f"{parts / 'a-1.jsonl'}:1: key 'n_tokens'") for line in lines), lines
