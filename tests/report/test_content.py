"""The page as a whole: which sections it has, whether its tables are sound, and what is refused."""

import json
import math
import time

import pytest

from tests.evaluation.conftest import Tiny
from tests.report.synthetic import METHODS, PLAIN, Made, Size, write
from toolkit.evaluation.stats import Interval
from toolkit.report.content import page
from toolkit.report.page import Chart, Example, Table

ALL = "headline tradeoff tasks acceptance windows latency phases usage texts failures examples certificate provenance"

STATE = 3  # column of the certificate


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    """Two targets on two tasks."""
    home = tmp_path_factory.mktemp("runs")
    for seed, (task, adapters) in enumerate([("gsm8k", []), ("steps", []), ("gsm8k", ["checkpoints/cod"])]):
        write(home / f"{task}-{len(adapters)}", task=task, adapters=adapters, seed=seed, failing=2 * (seed == 0))
    return sorted(home.iterdir())


@pytest.fixture(scope="module")
def made(directories):
    return page(directories)


def parts_of(found, kind):
    return [part for section in found.sections for part in section.parts if isinstance(part, kind)]


def by_id(found):
    return {section.id: section for section in found.sections}


def test_every_section_is_there(made):
    assert [section.id for section in made.sections] == ALL.split()
    assert all(section.parts and section.intro and section.title for section in made.sections)


def test_tables_are_whole(made):
    tables = parts_of(made, Table)
    assert len({table.name for table in tables}) == len(tables)
    for table in tables:
        keys = [column.key for column in table.columns]
        assert len(set(keys)) == len(keys) and table.rows
        for row in table.rows:
            assert len(row) == len(keys), table.name
            for value, column in zip(row, table.columns, strict=True):
                assert value is None or isinstance(value, str | bool | int | float | Interval), (table.name, column.key)
                if column.form != "text":
                    assert not isinstance(value, str), (table.name, column.key)
                elif not isinstance(value, bool):
                    assert isinstance(value, str | None), (table.name, column.key)


def test_charts_are_whole(made):
    charts = parts_of(made, Chart)
    assert len({chart.name for chart in charts}) == len(charts)
    for chart in charts:
        assert chart.series and all(series.points for series in chart.series), chart.name
        for point in (point for series in chart.series for point in series.points):
            assert math.isfinite(point.y)
            assert isinstance(point.x, str) == (chart.kind in ("bars", "stacked")), chart.name


def test_groups_are_named_by_what_they_are(made):
    tables = [table.title for table in by_id(made)["headline"].parts if isinstance(table, Table)]
    assert tables == ["tiny-random:llama, gsm8k", "tiny-random:llama + cod, gsm8k", "tiny-random:llama, steps"]


def test_examples_are_coloured(made):
    examples = parts_of(made, Example)
    assert examples and {span.kind for one in examples for span in one.spans} == {"accepted", "rejected", "target"}
    assert all(dict(one.facts)["tau"] for one in examples)
    assert any(" " in span.text and "#" in "".join(s.text for s in one.spans) for one in examples for span in one.spans)


def test_no_figure_is_the_best_of_several_tasks(made):
    """Where rows are of one task and target, it is."""
    for name in ("answer_tokens", "answer_tokens_paired", "truncated", "wrong_answers", "errors", "certificate"):
        [table] = [table for table in parts_of(made, Table) if table.name == name]
        assert not any(column.best for column in table.columns), name
    assert any(
        column.best for table in by_id(made)["headline"].parts if isinstance(table, Table) for column in table.columns
    )


def test_a_run_that_timed_nothing_says_so_once(tmp_path):
    write(tmp_path / "run", METHODS[:3], size=Size(speed=0))
    said, table = by_id(page([tmp_path / "run"]))["headline"].parts
    assert said.text.endswith(": nothing was timed.")
    assert "not timed, not in a speed set here: baseline, ngram, draft_k=2" in table.notes


def test_what_is_missing_is_said(tmp_path):
    write(tmp_path / "a", [PLAIN, Made("ngram")], size=Size(quality=0, windows=False), temperature=1.0)
    found = by_id(page([tmp_path / "a"]))
    said = " ".join(part.text for part in found["missing"].parts)
    assert not found.keys() & {"tradeoff", "tasks", "windows", "usage", "texts", "examples"}
    for title in ("Speed against accuracy", "Speedup by task", "Window ablation", "Draft usage", "Examples"):
        assert f"{title}: " in said
    assert "no quality set" in said and "older version" in said
    state = [row[STATE] for row in found["certificate"].parts[-1].rows]
    assert state == ["claimed, not checked in this run"]


def test_settings_that_differ_tell_groups_apart(tmp_path):
    for name, temperature in (("cold", 0.0), ("warm", 1.0)):
        write(tmp_path / name, METHODS[:2], temperature=temperature)
    found = page([tmp_path / "cold", tmp_path / "warm"])
    tables = [table.title for table in by_id(found)["headline"].parts if isinstance(table, Table)]
    assert tables == ["tiny-random:llama, gsm8k (temperature 0)", "tiny-random:llama, gsm8k (temperature 1)"]


def test_a_quality_run_and_a_speed_run_are_one_group(tmp_path):
    write(tmp_path / "speed", size=Size(quality=0))
    write(tmp_path / "quality", size=Size(speed=0))
    found = page([tmp_path / "speed", tmp_path / "quality"])
    [table] = [table for table in by_id(found)["headline"].parts if isinstance(table, Table)]
    keys = [column.key for column in table.columns]
    fuzzy = dict(zip(keys, next(row for row in table.rows if row[0] == "fuzzy"), strict=True))
    assert fuzzy["speed_prompts"] == 12 and fuzzy["quality_prompts"] == 30 and fuzzy["speedup"] and fuzzy["accuracy"]


def test_a_speed_set_in_which_nothing_ended(tmp_path):
    write(tmp_path / "run", METHODS[:1], failing=12)
    found = page([tmp_path / "run"])
    assert {"headline", "failures"} <= by_id(found).keys() and not {"latency", "phases"} & by_id(found).keys()
    assert any("12 rows failed" in note for table in parts_of(found, Table) for note in table.notes)


def test_who_refutes_a_claim_is_not_outvoted(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / name, METHODS[:2])
    summary = json.loads((tmp_path / "a" / "results.json").read_text())
    summary["equality"][0] |= {"equal": 10, "near_ties": 0, "bugs": 2}
    (tmp_path / "a" / "results.json").write_text(json.dumps(summary))
    for order in ("ab", "ba"):
        table = by_id(page([tmp_path / name for name in order]))["certificate"].parts[-1]
        assert [row[STATE] for row in table.rows] == ["claimed, and REFUTED by 2 of 12 texts"]


def test_targets_at_other_temperatures_are_not_compared(tmp_path):
    write(tmp_path / "plain", METHODS[:2])
    for temperature, paired in ((0.0, 1), (1.0, 0)):
        write(tmp_path / "other", METHODS[:2], adapters=["checkpoints/cod"], temperature=temperature)
        found = parts_of(page([tmp_path / "plain", tmp_path / "other"]), Table)
        assert [table.name for table in found].count("answer_tokens_paired") == paired


def test_a_real_run(tmp_path, capsys):
    tiny = Tiny(tmp_path)
    assert tiny.run("methods=[ngram,speculative,topk]", "target.device=cpu") == 0
    found = page([tiny.out])
    assert not {"headline", "acceptance", "latency", "examples", "certificate", "provenance"} - by_id(found).keys()
    states = {row[2]: row[STATE] for row in by_id(found)["certificate"].parts[-1].rows}
    assert states == {
        "ngram": "claimed, and 3 texts agree",
        "speculative": "claimed, and 3 texts agree",
        "topk": "not claimed",
    }
    [run] = next(part for part in by_id(found)["provenance"].parts if part.name == "runs").rows
    assert run[-1] == f"python -m eval {tiny.out / 'recipe.yaml'}"


def test_what_one_of_two_runs_refutes_is_refuted(tmp_path):
    for name in ("a", "b", "c"):
        write(tmp_path / name, METHODS[:2])
    results = json.loads((tmp_path / "b" / "results.json").read_text())
    results["equality"][0] |= {"bugs": 2, "equal": 10, "near_ties": 0}
    (tmp_path / "b" / "results.json").write_text(json.dumps(results))
    [row] = by_id(page([tmp_path / name for name in "abc"]))["certificate"].parts[-1].rows
    assert row[STATE] == "claimed, and REFUTED by 2 of 12 texts" and row[7:9] == [10, 12]


def test_targets_are_beside_each_other_at_one_temperature(tmp_path):
    """With all seeds of both."""
    for seed, (adapters, temperature) in enumerate([([], 0.0), ([], 1.0), (["cod"], 1.0)]):
        run = tmp_path / f"{seed}"
        write(run, METHODS[:2], adapters=adapters, temperature=temperature, seed=seed, size=Size(seeds=3))
    parts = by_id(page(sorted(tmp_path.iterdir())))["texts"].parts
    tables = {part.name: part.rows for part in parts if isinstance(part, Table)}
    [pair] = tables["answer_tokens_paired"]
    assert pair[:4] == ["gsm8k", "tiny-random:llama + cod", "tiny-random:llama", 30]
    tokens = {row[1]: row[4].value for row in tables["answer_tokens"]}
    assert pair[4].value == pytest.approx(tokens["gsm8k"] / tokens["gsm8k (temperature 1)"])


def test_an_exact_method_that_was_run_for_its_answers_is_compared(tmp_path):
    """Where it was not, its accuracy is the baseline's; where nothing is judged, nobody's."""
    tiny = Tiny(tmp_path)
    states = []
    for out, asked in (("a", "quality.exact=true"), ("b", "quality.exact=false"), ("c", "task.score=none")):
        assert tiny.run("methods=[ngram]", "sampling.temperature=1", asked, f"out={tmp_path / out}") == 0
        [table] = [part for part in by_id(page([tmp_path / out]))["headline"].parts if isinstance(part, Table)]
        keys = [column.key for column in table.columns]
        states.append(dict(zip(keys, table.rows[1], strict=True)))
    assert [state["accuracy_verdict"] for state in states] == ["no difference shown", "the baseline's", None]
    assert [state["p"] is None for state in states] == [False, True, True]


def test_a_task_without_a_verdict_is_throughput_only(tmp_path):
    """And has no `0 prompts` of a quality set whose answers nobody could judge."""
    tiny = Tiny(tmp_path)
    assert tiny.run("methods=[ngram]", "task.score=none", "target.device=cpu", "sampling.max_new_tokens=4") == 0
    for finished in (True, False):
        [table] = [part for part in by_id(page([tiny.out]))["headline"].parts if isinstance(part, Table)]
        assert [row[-2:] for row in table.rows] == [[3, None], [3, None]]
        assert any("throughput only" in note for note in table.notes), f"ended: {finished}"
        (tiny.out / "results.json").unlink(missing_ok=True)


def test_each_run_of_a_router_says_what_it_was_worth(tmp_path):
    worth = {"prompts": 6, "drafts": ["a"], "shares": {}, "choosing": {"share_of_time": 0.1}}
    for name, milliseconds in (("a", 1.0), ("b", 2.0)):
        write(tmp_path / name, METHODS[:2], size=Size(6, 6))
        results = json.loads((tmp_path / name / "results.json").read_text())
        results["routing"] = {"routed": worth | {"choosing": {"ms_a_prompt": milliseconds}}}
        (tmp_path / name / "results.json").write_text(json.dumps(results))
    for names, expected in (("ab", [[str(tmp_path / "a"), 1.0], [str(tmp_path / "b"), 2.0]]), ("a", [[None, 1.0]])):
        [table] = by_id(page([tmp_path / name for name in names]))["usage"].parts
        keys = [column.key for column in table.columns]
        rows = [dict(zip(keys, row, strict=True)) for row in table.rows]
        assert [[row.get("directory"), row["choosing_ms"]] for row in rows] == expected


@pytest.mark.slow
def test_fifty_thousand_rows_in_ten_seconds(tmp_path):
    """On one core, of rows as long as real ones: 5 tasks, 8 methods."""
    count = 0
    for seed, task in enumerate(("gsm8k", "steps", "math", "code", "chat")):
        count += len(write(tmp_path / task, task=task, seed=seed, size=Size(quality=1500, speed=700, tokens=128)))
    assert count >= 50_000
    began = time.process_time()
    found = page(sorted(tmp_path.iterdir()))
    assert time.process_time() - began < 10
    assert found.subtitle.startswith(f"{count:,} rows")
