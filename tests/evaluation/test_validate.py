"""`draftsmith validate`: a good file passes, and every planted fault is named with its line and key."""

import json

import pytest

from tests.evaluation.rows import row
from toolkit import cli
from toolkit.evaluation.records import encode
from toolkit.evaluation.validate import MOST

WINDOWS = [(4, 4), (2, 0), (3, 1)]  # by hand: 9 proposed, 5 accepted, 8 tokens; drafts of 4, 2 and 3
PIECES = {"proposer": {"type": "ngram"}, "length": {"type": "fixed"}, "accept": {"type": "topk"}}


def rows():
    """Two prompts: timed with the baseline and a lossy method, and judged in one batch."""
    made = []
    for i in range(2):
        prompt, block = f"p{i}", {"block": i, "prompt_tokens": 5 + i}
        made.append(row("baseline", prompt, resume_key=f"bs{i}", batch_key=f"bs{i}", **block))
        drafted = {"tokens": 8, "windows": WINDOWS, "lossless": False, "method_config": PIECES, **block}
        made.append(row("topk", prompt, resume_key=f"ts{i}", batch_key=f"ts{i}", **drafted))
        judged = {"set": "quality", "batch": 2, "correct": bool(i)}
        made.append(row("baseline", prompt, resume_key=f"bq{i}", batch_key="bq", **judged | block | {"block": 0}))
        made.append(row("topk", prompt, resume_key=f"tq{i}", batch_key="tq", divergence=0.1, **drafted | judged))
    return [json.loads(encode(one)) for one in made]


BASE, DRAFTED, JUDGED, LOSSY = 0, 1, 2, 3  # places of the first prompt's rows


@pytest.fixture
def path(tmp_path):
    return tmp_path / "records.jsonl"


def write(path, made):
    path.write_text("".join(json.dumps(one) + "\n" for one in made))


def said(path, capsys, *options):
    """-> exit code, and the lines but the summary."""
    code = cli.main(["validate", str(path), *options])
    shown = capsys.readouterr().out.splitlines()
    assert shown[-1].startswith(f"{path}: ")
    return code, shown[:-1], shown[-1]


def test_a_good_file_passes(path, capsys):
    write(path, rows())
    for options in ([], ["--strict"]):
        code, problems, summary = said(path, capsys, *options)
        assert (code, problems) == (0, [])
        assert "8 rows of 2 methods; nothing wrong" in summary
    assert "no run.json beside it" in summary


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ('{"set": ', None, "Invalid JSON"),
        ("[]", None, "expected"),
        ({"n_tokens": "8"}, "n_tokens", "expected a valid integer, got '8'"),
        ({"times": {"total": None}}, "times.total", "expected a valid number, got None"),
        ({"set": "fast"}, "set", "expected 'quality' or 'speed', got 'fast'"),
        ({"batch_key": ...}, "batch_key", "an older version of draftsmith wrote it"),
        ({"colour": 1}, "colour", "another version of draftsmith wrote it"),
        ({"schema_version": 2, "colour": 1}, "schema_version", "got 2: use the version of draftsmith that wrote it"),
    ],
)
def test_a_wrong_shape_is_named(path, capsys, text, key, expected):
    made = [json.dumps(one) for one in rows()]
    if isinstance(text, dict):
        changed = {name: value for name, value in (rows()[DRAFTED] | text).items() if value is not ...}
        text = json.dumps(changed)
    path.write_text("".join(line + "\n" for line in [made[0], text, *made[2:]]))
    code, [problem], summary = said(path, capsys)
    assert code == 1 and "1 problem" in summary
    assert problem.startswith(f"{path}:2: " + (f"key '{key}': " if key else ""))
    assert expected in problem


def test_not_a_number_is_no_number(path, capsys):
    write(path, [rows()[0] | {"first_token_seconds": float("nan")}])
    code, [problem], _ = said(path, capsys)
    assert code == 1 and "'first_token_seconds'" in problem


def test_a_torn_last_line_is_called_that(path, capsys):
    write(path, rows())
    path.write_bytes(path.read_bytes()[:-40])
    code, [problem], _ = said(path, capsys)
    assert code == 1 and problem.startswith(f"{path}:8: ") and "torn" in problem


FAULTS = [  # row, change, key that is named
    (DRAFTED, {"accepted": 10}, "accepted"),
    (DRAFTED, {"n_tokens": 9}, "n_tokens"),
    (DRAFTED, {"rounds": 4}, "n_tokens"),
    (DRAFTED, {"rounds": 2}, "n_tokens"),
    (DRAFTED, {"n_tokens": 6}, "n_tokens"),
    (DRAFTED, {"proposed_at": [3, 3, 2, 2]}, "proposed_at"),
    (DRAFTED, {"accepted_at": [2, 1, 1, 0]}, "accepted_at"),
    (DRAFTED, {"reached_at": [3, 2, 1]}, "reached_at"),
    (DRAFTED, {"reached_at": [3, 0, 1, 1]}, "reached_at"),
    (DRAFTED, {"proposed_at": [2, 3, 2, 2]}, "proposed_at"),
    (DRAFTED, {"drafts": 2}, "drafts"),
    (DRAFTED, {"windows": [[9, 1, 2]]}, "windows"),
    (DRAFTED, {"prompt_tokens": -1}, "prompt_tokens"),
    (DRAFTED, {"batch": 0}, "batch"),
    (DRAFTED, {"finish": None}, "finish"),
    (DRAFTED, {"divergence": 0.1}, "divergence"),
    (JUDGED, {"divergence": 0.1}, "divergence"),
    (DRAFTED, {"sources": "11"}, "sources"),
    (DRAFTED, {"routed": {"a": 4}}, "routed"),
    (DRAFTED, {"times": {"total": 1.0}}, "times"),
    (DRAFTED, {"times": {"prefill": 0.1, "draft": 0.2, "verify": 0.6, "host": 0.1, "total": 0.9}}, "times.total"),
    (DRAFTED, {"times": {"prefill": -0.1, "draft": 0.2, "verify": 0.6, "host": 0.1, "total": 1.0}}, "times"),
    (DRAFTED, {"first_token_seconds": 1.1}, "first_token_seconds"),
    (DRAFTED, {"routing_seconds": -0.1}, "routing_seconds"),
    (DRAFTED, {"message": "none"}, "message"),
    (DRAFTED, {"status": "error", "message": "m"}, "error_type"),
    (LOSSY, {"status": "error", "error_type": "E", "message": "m"}, "correct"),
    (DRAFTED + 4, {"resume_key": "ts0"}, "resume_key"),
    (DRAFTED + 4, {"temperature": 1.0}, "temperature"),
    (DRAFTED + 4, {"lossless": True}, "lossless"),
    (DRAFTED + 4, {"method_config": {}}, "method_config"),
    (DRAFTED + 4, {"prompt_tokens": 5}, "prompt_tokens"),
    (LOSSY + 4, {"session": "s2"}, "batch_key"),
    (BASE, {"batch": 2}, "batch"),
    (BASE, {"seed": 7}, "method"),
    (BASE, {"repeat": 1}, "method"),
]


@pytest.mark.parametrize(("place", "change", "key"), FAULTS)
def test_a_contradiction_is_named_by_strict_alone(path, capsys, place, change, key):
    made = rows()
    made[place] |= change
    write(path, made)
    assert said(path, capsys)[0] == 0
    code, problems, _ = said(path, capsys, "--strict")
    assert code == 1
    assert any(f"key '{key}': expected" in problem for problem in problems), problems


def test_an_item_is_there_once(path, capsys):
    made = rows()
    write(path, [*made, made[DRAFTED]])
    code, [problem], _ = said(path, capsys, "--strict")
    assert code == 1
    assert problem.startswith(f"{path}:9: key 'prompt_id': ") and "line 2 already" in problem


def test_a_text_may_end_in_a_draft(path, capsys):
    """The last window's accepted tokens are the end: no token of the target's behind them. Not so at the limit."""
    for finish, code in (("eos", 0), ("stop", 0), ("length", 1)):
        made = rows()
        made[DRAFTED] |= {"n_tokens": 7, "tokens": list(range(7)), "finish": finish}
        write(path, made)
        assert said(path, capsys, "--strict")[0] == code


def test_a_conversation_holds_what_the_user_said(path, capsys):
    """`tokens` has it and n_tokens does not; but then in every row of the prompt."""
    made = rows()
    for one in made[:4]:
        one["tokens"] += [1, 2, 3]
    write(path, made)
    assert said(path, capsys, "--strict")[0] == 0
    made[LOSSY]["tokens"] = made[LOSSY]["tokens"][:-3]
    write(path, made)
    code, [problem], _ = said(path, capsys, "--strict")
    assert code == 1 and problem.startswith(f"{path}:4: key 'n_tokens'") and "conversation" in problem


def test_greedy_answers_of_one_seed_stand_for_all(path, capsys):
    made = rows()
    made[LOSSY] |= {"seed": 3}
    write(path, made)
    assert said(path, capsys, "--strict")[0] == 0
    write(path, [one | {"temperature": 1.0} for one in made])
    assert said(path, capsys, "--strict")[0] == 1


def test_many_problems_are_shown_in_part_and_counted(path, capsys):
    write(path, [rows()[0] | {"prompt_id": f"p{i}", "finish": i, "seed": "x"} for i in range(30)])
    _, problems, summary = said(path, capsys)
    assert len(problems) == MOST + 1
    assert problems[0] == f"{path}:1: key 'seed': expected a valid integer, got 'x' (and so in 29 more lines)"
    assert problems[-1] == "... and 11 more; in all: seed 30, finish 30"
    assert "30 rows of 0 methods; 60 problems" in summary


def test_a_file_of_an_older_version_says_so_once(path, capsys):
    write(path, [one | {"schema_version": 1} for one in rows()])
    _, [problem], summary = said(path, capsys)
    assert problem.startswith(f"{path}:1: key 'schema_version': expected 3, got 1") and "7 more lines" in problem
    assert "8 rows of 0 methods; 8 problems" in summary


def test_a_run_of_its_own_passes_and_its_run_json_counts(tiny, capsys):
    """Rows that failed, several seeds, batches, lossy and exact methods; then a session that nobody lists."""
    tiny.ask(["1 + 1 is", "a" * 9000, "2 + 2 is", "3 + 3 is"])  # the second is longer than the model's positions
    changes = ["methods=[ngram,topk,speculative]", "seeds=[0,1]", "sampling.temperature=1.0", "speed.batch=2"]
    assert tiny.run(*changes, "speed.prompts=4") == 0
    capsys.readouterr()
    assert cli.main(["validate", str(tiny.out), "--strict"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[2] for line in shown[:2]] == ["read; nothing wrong"] * 2
    assert "rows of 4 methods; nothing wrong" in shown[2]
    marker = json.loads((tiny.out / "run.json").read_text())
    marker["sessions"][0]["id"] = "another"
    marker["identity"]["sampling"]["temperature"] = 0.5
    del marker["identity"]["methods"]["topk"]
    (tiny.out / "run.json").write_text(json.dumps(marker))
    assert cli.main(["validate", str(tiny.records)]) == 0
    capsys.readouterr()
    assert cli.main(["validate", str(tiny.records), "--strict"]) == 1
    shown = capsys.readouterr().out
    assert all(f"key '{key}': expected" in shown for key in ("session", "temperature", "method_config"))


def test_rows_that_a_finished_run_has_lost_are_missed(tiny, capsys):
    tiny.run("methods=[ngram,topk]")
    lines = tiny.records.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["set"] == "speed"]
    assert 0 < len(kept) < len(lines)
    tiny.records.write_bytes(b"".join(kept))
    capsys.readouterr()
    assert cli.main(["validate", str(tiny.out), "--strict"]) == 1
    shown = capsys.readouterr().out
    assert "prompts of baseline in the quality set, as in results.json; got 0: rows were lost" in shown
    assert "prompts of ngram" not in shown, "an exact method has the baseline's answers"


def test_json_files_of_a_directory_are_checked(tiny, capsys):
    tiny.run("methods=[ngram]")
    (tiny.out / "results.json").unlink()
    (tiny.out / "run.json").write_text('{"recipe": 1, "identity": {}, "sessions": []}')
    capsys.readouterr()
    assert cli.main(["validate", str(tiny.out)]) == 1
    shown = capsys.readouterr().out
    assert f"{tiny.out / 'run.json'}: key 'recipe': expected a valid string, got 1" in shown
    assert f"{tiny.out / 'run.json'}: key 'identity.target': expected, and not there" in shown
    assert "results.json" not in shown, "a run that has not ended has none"
    (tiny.out / "run.json").unlink()
    assert cli.main(["validate", str(tiny.out)]) == 1
    assert f"{tiny.out / 'run.json'}: expected beside records.jsonl" in capsys.readouterr().out


def test_what_is_not_there_is_a_users_error(tmp_path, capsys):
    assert cli.main(["validate", str(tmp_path)]) == 2
    assert cli.main(["validate", str(tmp_path / "no.jsonl")]) == 2
    assert "expected a records.jsonl, or the output directory of an eval" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        cli.main(["validate"])
    assert ended.value.code == 2


def test_export_alone_needs_no_records(tmp_path, capsys):
    assert cli.main(["validate", "--export", str(tmp_path / "new")]) == 0
    assert "record.schema.json" in capsys.readouterr().out
    assert len(list((tmp_path / "new").iterdir())) == 4
