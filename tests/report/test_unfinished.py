"""Runs that have not ended, and directories that are none: what is reported of their rows, and what is refused."""

import json
import shutil

import pytest
import yaml

from tests.evaluation.conftest import Tiny
from tests.report.synthetic import METHODS, Made, Size, write
from toolkit import cli
from toolkit.errors import UserError
from toolkit.evaluation import parts, run
from toolkit.evaluation.ranks import Alone
from toolkit.report.content import page
from toolkit.report.page import Chart, Table, Text


def by_id(found):
    return {section.id: section for section in found.sections}


def warnings(found):
    return [part.text for part in by_id(found)["headline"].parts if isinstance(part, Text) and part.warning]


def test_a_killed_run_is_reported_from_its_rows(tmp_path):
    write(tmp_path / "killed", finished=False)
    with (tmp_path / "killed" / "records.jsonl").open("ab") as file:
        file.write(b'{"set": "speed", "meth')
    found = page([tmp_path / "killed"])
    [warning] = warnings(found)
    assert "killed: the run is under way or was killed" in warning
    assert {row[3] for row in by_id(found)["certificate"].parts[-1].rows} == {
        "claimed, not checked in this run",
        "not claimed",
    }


def test_parts_of_a_killed_run_are_in_its_report(tmp_path):
    rows = write(tmp_path / "killed", METHODS[:2], finished=False)
    records = tmp_path / "killed" / "records.jsonl"
    lines = records.read_bytes().splitlines(keepends=True)
    own = parts.own(records, "session", Alone(False)).path
    own.write_bytes(b"".join(lines[5:]) + b'{"set": "qua')
    records.write_bytes(b"".join(lines[:7]))  # two rows are in both, as a merge that was killed leaves them
    assert f"{len(rows)} rows" in page([tmp_path / "killed"]).subtitle
    records.unlink()
    assert f"{len(rows) - 5} rows" in page([tmp_path / "killed"]).subtitle
    own.unlink()
    with pytest.raises(UserError, match="no row of the baseline yet"):
        page([tmp_path / "killed"])


def test_a_finished_run_that_is_extended_and_killed_is_what_its_rows_say(tmp_path, monkeypatch):
    tiny = Tiny(tmp_path)
    common = ["methods=[ngram]", "target.device=cpu", "sampling.max_new_tokens=4"]
    assert tiny.run(*common, "quality.prompts=2") == 0
    assert warnings(page([tiny.out])) == []
    monkeypatch.setattr(run.report, "write", lambda *_: pytest.fail("killed before its summary"))
    with pytest.raises(pytest.fail.Exception):
        tiny.run(*common, "quality.prompts=5")
    found = page([tiny.out])
    [warning] = warnings(found)
    assert "out: the run goes on, or was killed, beyond what its results.json sums up: figures of the rows" in warning
    [table] = [part for part in by_id(found)["headline"].parts if isinstance(part, Table)]
    assert table.rows[0][-1] == 5, "prompts of the quality set"
    assert [row[0] for row in next(p for p in by_id(found)["provenance"].parts if p.name == "models").rows] == [
        "tiny-random:llama"
    ]
    monkeypatch.undo()
    assert tiny.run(*common, "quality.prompts=5") == 0
    assert warnings(page([tiny.out])) == []


def test_methods_of_a_killed_run_are_of_their_grids(tmp_path):
    """As they are when it has ended."""
    made = [METHODS[0], *(Made(f"draft_k={k}", window=k, grid="draft") for k in (2, 4))]
    states = []
    for name, finished in (("ended", True), ("killed", False)):
        write(tmp_path / name, made, finished=finished, size=Size(6, 6))
        node = {"name": "draft", **made[1].config, "grid": {"length.k": [2, 4]}}
        recipe = yaml.safe_load((tmp_path / name / "recipe.yaml").read_text())
        (tmp_path / name / "recipe.yaml").write_text(yaml.safe_dump(recipe | {"methods": [node]}))
        [chart] = [part for part in by_id(page([tmp_path / name]))["windows"].parts if isinstance(part, Chart)]
        places = next(part for part in by_id(page([tmp_path / name]))["tradeoff"].parts if part.name == "hypervolume")
        states.append(([series.name for series in chart.series], [row[0] for row in places.rows]))
    assert states[0] == states[1] == (["draft"], ["everything", "draft"])


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("run.json", None, "has no run.json, which says whose rows these are. Delete"),
        ("run.json", "{", "run.json: .*JSON.*Delete .* and run its command again"),
        ("run.json", "[]", "run.json: .*Delete .* and run its command again"),
        ("run.json", '{"recipe": "a", "sessions": []}', "run.json: key 'identity': expected, .*Delete"),
        ("recipe.yaml", None, "has no recipe.yaml. The run is under way or was killed.*Run its command again"),
        ("recipe.yaml", "a: [", r"recipe.yaml:\d: not valid YAML.*Run its command again"),
        ("recipe.yaml", "", "recipe.yaml: .*target.*Run its command again"),
        ("recipe.yaml", "- a", "recipe.yaml: a recipe is a mapping.*Run its command again"),
        ("recipe.yaml", "target: gpt2\ntask: a\nspeed: {batch: 0}", "recipe.yaml: key 'speed.batch'.*Run its command"),
    ],
)
def test_a_file_of_a_killed_run_that_is_damaged_is_named(tmp_path, name, text, said):
    write(tmp_path / "killed", METHODS[:2], finished=False, size=Size(6, 6))
    (tmp_path / "killed" / name).unlink()
    if text is not None:
        (tmp_path / "killed" / name).write_text(text)
    with pytest.raises(UserError, match=f"(?s)killed.*{said}"):
        page([tmp_path / "killed"])


@pytest.mark.parametrize("name", ["run.json", "results.json"])
def test_a_damaged_file_of_a_run_that_has_ended_is_refused(tmp_path, name):
    write(tmp_path / "ended", METHODS[:2], size=Size(6, 6))
    (tmp_path / "ended" / name).write_text("{")
    with pytest.raises(UserError, match="ended: not the output of this program"):
        page([tmp_path / "ended"])


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="missing: no such directory"):
        page([tmp_path / "missing"])
    write(tmp_path / "a", METHODS[:2])
    with pytest.raises(UserError, match="twice"):
        page([tmp_path / "a", tmp_path / "." / "a"])
    (tmp_path / "study.json").write_text("[]")
    with pytest.raises(UserError, match="not the table of a study"):
        page([tmp_path])


def test_a_directory_above_runs_says_which_they_are(tmp_path, capsys):
    """As it is of a study that was killed before its table."""
    assert cli.main(["report", str(tmp_path), "--out", str(tmp_path / "page")]) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path}: no output directory of an eval or a study: looked for run.json, results.json, " in said
    assert "level below" not in said
    for name in ("code", "chat"):
        write(tmp_path / name, METHODS[:2], finished=name == "code", size=Size(6, 6))
    (tmp_path / "notes").mkdir()
    assert cli.main(["report", str(tmp_path), "--out", str(tmp_path / "page")]) == 2
    assert "A level below there are chat, code: name those that belong on one page." in capsys.readouterr().err


def test_a_study_stands_for_its_cells(tmp_path):
    cells = []
    for name in ("code", "chat"):
        write(tmp_path / "study" / name, METHODS[:3], task=name)
        cells.append({"values": [name]})
    (tmp_path / "study" / "study.json").write_text(json.dumps({"cells": cells}))
    assert "tasks" in by_id(page([tmp_path / "study"]))
    shutil.rmtree(tmp_path / "study" / "chat")
    with pytest.raises(UserError, match="chat: no such directory"):
        page([tmp_path / "study"])
