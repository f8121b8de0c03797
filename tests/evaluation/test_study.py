"""A study on a tiny model: every cell is a run of its own, a second start decodes nothing, mistakes are refused."""

import json
from dataclasses import asdict
from types import SimpleNamespace

import pytest

from tests.evaluation.rows import row
from toolkit.evaluation import study, study_table
from toolkit.evaluation.compare import Side, compare
from toolkit.evaluation.report import qualities
from toolkit.evaluation.study_table import Cell

RECIPE = """
recipe: recipes/eval/cot_cod_cell.yaml
axes:
  task: {{steps: ["task={{type: steps, split: test, limit: 6}}"]}}
  style: {{cot: [task.style=cot], cod: [task.style=cod]}}
compare: {{axis: style, base: cot, other: {other}}}
out: {out}
"""
SMALL = ["target=tiny-random:llama", "sampling.max_new_tokens=16", "speed.max_new_tokens=8", "speed.prompts=5"]


def written(tmp_path, other="cod"):
    path = tmp_path / "study.yaml"
    path.write_text(RECIPE.format(other=other, out=tmp_path / "out"))
    return str(path)


def test_a_study(tmp_path, capsys):
    path = written(tmp_path)
    assert study.main([path, *SMALL]) == 0
    shown = capsys.readouterr().out
    assert "cod against cot" in shown
    out = tmp_path / "out"
    found = json.loads((out / "study.json").read_text())
    assert [cell["values"] for cell in found["cells"]] == [["steps", "cot"], ["steps", "cod"]]
    assert {one["method"] for one in found["comparisons"]} == {"baseline", "ngram"}
    assert all(one["speed_n"] == 5 and one["quality_n"] == 6 for one in found["comparisons"])
    for cell in ("steps-cot", "steps-cod"):
        timed = [json.loads(line) for line in (out / cell / "records.jsonl").read_text().splitlines()]
        assert {row["n_tokens"] for row in timed if row["set"] == "speed"} <= set(range(1, 9))
        assert max(row["n_tokens"] for row in timed if row["set"] == "quality") == 16
        # every text ran into the limit: none of them counts as right
        assert not any(row["correct"] for row in timed if row["finish"] == "length")
    before = (out / "steps-cot" / "records.jsonl").read_bytes()
    assert study.main([path, *SMALL]) == 0
    assert (out / "steps-cot" / "records.jsonl").read_bytes() == before


def test_a_value_that_is_no_cell_is_refused(tmp_path, capsys):
    assert study.main([written(tmp_path, other="code"), *SMALL]) == 2
    assert "'code'; expected an axis of task, style and two of its values" in capsys.readouterr().err


def test_timed_texts_have_a_token_at_least(tmp_path, capsys):
    assert study.main([written(tmp_path), *SMALL, "speed.max_new_tokens=0"]) == 2
    assert "'speed.max_new_tokens'" in capsys.readouterr().err


def cell(value, metric):
    rows = [row("baseline", f"p{i}", set="quality", correct=i < 2) for i in range(5)]
    found = Cell((value, "cot"), None, rows)
    found.__dict__["results"] = {
        "methods": {"baseline": {}},
        "metric": metric,
        "speed": [],
        "quality": [asdict(one) for one in qualities(rows, ["baseline"])],
    }
    return found


@pytest.mark.parametrize(
    ("metrics", "score", "named"),
    [
        (["pass@1", "pass@1"], "pass@1", []),
        (["pass@1", None], "pass@1", []),
        ([None, None], "accuracy", []),
        (["accuracy", "pass@1"], "score", ["accuracy", "pass@1"]),
    ],
)
def test_the_score_has_its_tasks_name(metrics, score, named):
    """Where tasks name it differently each row says what it is of."""
    cells = [cell(value, metric) for value, metric in zip("ab", metrics, strict=True)]
    sides = [Side.of(one.rows, "baseline") for one in cells]
    compared = {"cell": ["a"], "method": "baseline", "metric": metrics[0]} | asdict(compare(*sides))
    pair = SimpleNamespace(axis="style", base="cot", other="cod", unit="seconds")
    other = compared | {"cell": ["b"], "metric": metrics[1]}
    quality, against = study_table.tables(["task", "style"], cells, pair, [compared, other])
    assert f"{score} [95%]" in quality.columns and score in against.columns
    assert not {"accuracy", "accuracy [95%]"} - {score, f"{score} [95%]"} & {*quality.columns, *against.columns}
    for table in (quality, against):
        assert [line[table.columns.index("metric")] for line in table.rows if named] == named
        assert ("metric" in table.columns) is bool(named)
        assert all(len(line) == len(table.columns) for line in table.rows)
    assert f"a baseline: {metrics[0] or score} no difference shown" in "".join(against.notes)
