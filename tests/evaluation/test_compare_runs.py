"""`eval.compare` on runs of a tiny model: what it writes, what it joins, and what it refuses to."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.evaluation.conftest import Tiny
from tests.test_methods import judged
from toolkit.evaluation.pareto_report import main
from toolkit.hub import ModelConfig, Models

ROOT = Path(__file__).parents[2]
DRAFT = "{type: draft_model, model: {name: target, draft_from: {layers: [0]}}}"
THRESHOLDS, RANKS, WINDOWS = [0, 0.5, 1], [2, "all"], [2, 4]
RIGHT = {"topk": 1, "autojudge": 3, "baseline": 4}  # of five answers
FILES = {"pareto.md", "pareto.csv", "pareto.json", "pareto.png", "pareto.pdf"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A sweep: all of it in one directory, and its two sets in two -> path by name."""
    home = tmp_path_factory.mktemp("sweep")
    judge = home / "judge"
    judge.mkdir()
    judged(judge, Models(ModelConfig("tiny-random:llama", device="cpu")))
    tiny = Tiny(home)
    sweep = (
        f"methods=[{{name: rejection, proposer: {DRAFT}, grid: {{length.k: {WINDOWS}}}}},"
        f"{{name: autojudge, proposer: {DRAFT}, accept: {{type: autojudge, judge: {judge}}},"
        f" grid: {{accept.threshold: {THRESHOLDS}, length.k: {WINDOWS}}}}},"
        f"{{name: topk, proposer: {DRAFT}, accept: topk, grid: {{accept.k: [2, all], length.k: {WINDOWS}}}}}]"
    )
    for name, changes in (("quality", ["speed.prompts=0"]), ("speed", ["quality.enabled=false"]), ("both", [])):
        common = [sweep, "target.device=cpu", "speed.prompts=5", *changes, f"out={home / name}"]
        assert tiny.run(*common) == 0
        mark(home / name)
    for name, change in (("warm", "sampling.temperature=1.0"), ("short", "sampling.max_new_tokens=8")):
        assert tiny.run("methods=[ngram]", "target.device=cpu", change, f"out={home / name}") == 0
    assert tiny.run("methods=[ngram]", "target.device=cpu", "speed.max_new_tokens=4", f"out={home / 'timed'}") == 0
    assert tiny.run("methods=[ngram]", "target={name: 'tiny-random:qwen3', device: cpu}", f"out={home / 'other'}") == 0
    tiny.ask([f"What is twice {i}?" for i in range(5)])
    assert tiny.run("methods=[ngram]", "target.device=cpu", f"out={home / 'data'}") == 0
    return {path.name: path for path in home.iterdir() if path.is_dir()}


def mark(directory):
    """A random model has no answer right and no speed of its own: both are written by hand."""
    path = directory / "records.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        family = row["method"].partition("_")[0]
        row["correct"] = int(row["prompt_id"][1:]) < RIGHT.get(family, 4)
        pace = {"baseline": 1.0, "rejection": 1.5, "autojudge": 2.0, "topk": 2.5}[family]
        row["times"] = dict.fromkeys(("prefill", "draft", "verify", "host"), row["n_tokens"] / pace / 4)
        row["times"]["total"] = row["n_tokens"] / pace
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def compare(out, *arguments):
    assert main([*map(str, arguments), "--out", str(out)]) == 0
    return json.loads((out / "pareto.json").read_text())


def by_method(found):
    return {point["method"]: point for point in found["points"]}


def rows(directory, method, set_name="speed"):
    lines = (directory / "records.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    return [row for row in found if row["method"] == method and row["set"] == set_name]


def test_threshold_0_is_plain_rejection_token_for_token(runs, tmp_path):
    found = by_method(compare(tmp_path, runs["both"]))
    for k in WINDOWS:
        plain, judge = (rows(runs["both"], name) for name in (f"rejection_k={k}", f"autojudge_threshold=0_k={k}"))
        assert len(plain) == 5
        for one, other in zip(plain, judge, strict=True):
            for key in ("prompt_id", "tokens", "rounds", "proposed", "accepted", "lossless"):
                assert one[key] == other[key]
        assert rows(runs["both"], f"autojudge_threshold=0_k={k}", "quality") == []
        exact, base = found[f"autojudge_threshold=0_k={k}"], found["baseline"]
        assert exact["lossless"] and exact["accuracy"] == base["accuracy"] and exact["paired"] is None


def test_threshold_1_is_the_control_token_for_token(runs):
    for k in WINDOWS:
        all_, judge = (
            rows(runs["both"], name, "quality")
            for name in (f"topk_accept.k=all_length.k={k}", f"autojudge_threshold=1_k={k}")
        )
        assert len(all_) == 5
        assert [row["tokens"] for row in all_] == [row["tokens"] for row in judge]
        assert all(row["accepted"] == row["proposed"] for row in all_)


def test_what_it_writes(runs, tmp_path, capsys):
    found = compare(tmp_path, runs["both"])
    assert {path.name for path in tmp_path.iterdir()} == FILES
    assert (tmp_path / "pareto.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "pareto.pdf").read_bytes()[:5] == b"%PDF-"
    points = by_method(found)
    assert list(points) == ["baseline", *(f"rejection_k={k}" for k in WINDOWS)] + [
        *(f"autojudge_threshold={t}_k={k}" for t in THRESHOLDS for k in WINDOWS),
        *(f"topk_accept.k={r}_length.k={k}" for r in RANKS for k in WINDOWS),
    ]
    assert {name for name, point in points.items() if point["control"]} == {
        *(f"autojudge_threshold=1_k={k}" for k in WINDOWS),
        *(f"topk_accept.k=all_length.k={k}" for k in WINDOWS),
    }
    judge = points["autojudge_threshold=0.5_k=4"]
    own = rows(runs["both"], "autojudge_threshold=0.5_k=4", "quality")
    calls = sum(row["rounds"] for row in own) / sum(row["n_tokens"] for row in own)
    assert judge["quality_target_calls_per_token"] == pytest.approx(calls) and calls < 1
    assert points["rejection_k=2"]["quality_target_calls_per_token"] is None
    assert judge["values"] == {"accept.threshold": 0.5, "length.k": 4}
    assert judge["speedup"]["value"] == pytest.approx(2.0) and judge["speedup"]["low"] == pytest.approx(2.0)
    assert (judge["accuracy"]["value"], judge["paired"]["lost"], judge["paired"]["gained"]) == (0.6, 1, 0)
    assert (judge["paired"]["p"], judge["paired"]["verdict"]) == (1.0, "no difference shown")
    assert judge["counters"]["judge_total"] == sum(
        judge["counters"][f"judge_{what}"] for what in ("accepted", "rejected")
    )
    # beside each other: (1.5, 0.8) plain, (2.0, 0.8) its theta = 0, (2.0, 0.6) the judge's, (2.5, 0.2) top-k's
    assert not points["baseline"]["front"] and points["baseline"]["overlap"] == ["accuracy"]
    assert {name.partition("_")[0] for name in found["front"]} <= {"autojudge", "topk"}
    assert found["reference"] == {"speedup": 1.0, "accuracy": 0.0}
    [everything] = [one for one in found["hypervolume"] if one["of"] == "everything"]
    assert everything["value"] == pytest.approx(1.0 * 0.8 + 0.5 * 0.2, rel=1e-6)
    text = (tmp_path / "pareto.md").read_text()
    for words in (
        "| autojudge_threshold=1_k=2 (control) | no |",
        "reference point of the hypervolume: speedup 1, accuracy 0",
        "## At equal speed",
        "no difference shown",
        "temperature 0, at most 16 tokens, chat template on",
        "## Counted: judge (quality set)",
    ):
        assert words in text
    assert "add one" not in text
    shown = capsys.readouterr().out
    assert "…" not in shown and "pareto.pdf" in shown
    lines = list(csv.DictReader((tmp_path / "pareto.csv").read_text().splitlines()))
    [line] = [line for line in lines if line["method"] == "autojudge_threshold=0.5_k=4"]
    assert (line["accuracy"], line["accuracy.low"] != "", line["values.length.k"]) == ("0.6", True, "4")
    assert [line["method"] for line in lines] == list(points)


def test_two_directories_are_one_run(runs, tmp_path):
    """The same figures, whether both sets were run in one directory or each in its own."""
    both, joined = compare(tmp_path / "a", runs["both"]), compare(tmp_path / "b", runs["speed"], runs["quality"])
    assert both["points"] == joined["points"]
    assert both["hypervolume"] == joined["hypervolume"]
    assert both["at_the_speed_of"] == joined["at_the_speed_of"]


def test_one_set_alone_has_no_picture(runs, tmp_path):
    found = compare(tmp_path, runs["quality"])
    assert found["front"] == [] and found["hypervolume"] == []
    assert not (tmp_path / "pareto.png").exists()
    judge = by_method(found)["autojudge_threshold=0.5_k=4"]
    assert judge["paired"]["lost"] == 1 and judge["untimed"] == "not in a speed set here"
    text = (tmp_path / "pareto.md").read_text()
    assert text.count("no place for any method: there is no speed set here. Time one with") == 1
    assert "not timed:" not in text and "no place:" not in text


def test_at_the_speed_of_a_method(runs, tmp_path):
    found = compare(tmp_path, runs["both"], "--at", "rejection_k=2", "topk_accept.k=2_length.k=2")
    looked = {(one["method"], one["family"]): one for one in found["at_the_speed_of"]}
    assert looked.keys() == {
        ("rejection_k=2", "autojudge"),
        ("rejection_k=2", "topk"),
        ("topk_accept.k=2_length.k=2", "lossless"),
        ("topk_accept.k=2_length.k=2", "autojudge"),
    }
    assert looked["rejection_k=2", "autojudge"]["cell"].startswith("autojudge_threshold=0_")
    assert looked["rejection_k=2", "topk"]["paired"]["gained"] == 3
    assert looked["topk_accept.k=2_length.k=2", "autojudge"]["cell"] is None
    text = (tmp_path / "pareto.md").read_text()
    assert "| rejection_k=2 | autojudge | autojudge_threshold=0_k=" in text and "picked by this table" in text
    for point in found["points"]:
        assert point["target_calls_per_token"] * point["tau"] == pytest.approx(1.0)


def test_the_reference_point_can_be_given(runs, tmp_path):
    found = compare(tmp_path, runs["both"], "--reference", "2.25", "0.1")
    [everything] = [one for one in found["hypervolume"] if one["of"] == "everything"]
    assert everything["value"] == pytest.approx(0.25 * 0.1)
    assert found["reference"] == {"speedup": 2.25, "accuracy": 0.1}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["both", "warm"], "sampling.temperature is 1.0 there, 0.0 in"),
        (["both", "short"], "sampling.max_new_tokens is 8 there, 16 in"),
        (["speed", "timed"], "speed.max_new_tokens is 4 there, None in"),
        (["both", "other"], "target.name is 'tiny-random:qwen3' there, 'tiny-random:llama' in"),
        (["quality", "speed", "data"], "is of other data there than in"),
        (["both", "judge"], "has no run.json"),
        (["both", "both"], "is there twice"),
        (["both", "nowhere"], "has no run.json"),
        (["both", "--at", "rejection_k=3"], "no method of these directories. Did you mean 'rejection_k="),
        (["quality", "--at", "rejection_k=2"], "has no place: not in a speed set here"),
    ],
)
def test_what_is_refused(runs, tmp_path, capsys, arguments, says):
    missing = tmp_path / "nowhere"
    known = runs | {"nowhere": missing}
    words = [str(known.get(word, word)) for word in arguments]
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and says in message
    assert not (tmp_path / "out").exists()


def test_quality_alone_goes_with_any_timing(runs, tmp_path):
    """How long timed texts are matters only where both were timed."""
    compare(tmp_path, runs["quality"], runs["timed"])


def test_another_template_is_refused(runs, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(runs["both"], copy)
    marker = json.loads((copy / "run.json").read_text())
    marker["identity"]["chat_template"] = False
    (copy / "run.json").write_text(json.dumps(marker))
    assert main([str(runs["both"]), str(copy)]) == 2
    assert "chat_template is False there, True in" in capsys.readouterr().err


def test_what_an_older_version_wrote_is_named(runs, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(runs["both"], copy)
    results = json.loads((copy / "results.json").read_text())
    del results["methods"]["rejection_k=2"]["grid"]
    (copy / "results.json").write_text(json.dumps(results))
    assert main([str(copy)]) == 2
    assert f"{copy}: an older version of draftsmith wrote it: key 'grid' is missing in" in capsys.readouterr().err
    (copy / "results.json").write_text("[]")
    assert main([str(copy)]) == 2
    assert "not the output of this program" in capsys.readouterr().err


def test_what_was_not_timed_says_why(runs, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(runs["both"], copy)
    name = "topk_accept.k=2_length.k=2"
    lines = (copy / "records.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in lines if (json.loads(line)["set"], json.loads(line)["method"]) != ("speed", name)]
    (copy / "records.jsonl").write_text("".join(kept))
    results = json.loads((copy / "results.json").read_text())
    (copy / "results.json").write_text(json.dumps(results | {"untimed": {name: "it is no better"}}))
    point = by_method(compare(tmp_path / "out", copy))[name]
    assert (point["untimed"], point["front"], point["speedup"]) == ("it is no better", False, None)
    assert f"no place: {name}: not timed: it is no better" in (tmp_path / "out" / "pareto.md").read_text()
    # timed in another directory it has its place
    assert by_method(compare(tmp_path / "out", copy, runs["both"]))[name]["untimed"] is None


@pytest.mark.parametrize("set_name", ["quality", "speed"])
def test_rows_of_unlisted_sessions_are_noted(runs, tmp_path, set_name):
    copy = tmp_path / "copy"
    shutil.copytree(runs["both"], copy)
    assert not any("does not list" in note for note in compare(tmp_path / "out", copy)["notes"])
    lines = [json.loads(line) for line in (copy / "records.jsonl").read_text().splitlines()]
    for row in [row for row in lines if row["set"] == set_name][:3]:
        row["session"] = "elsewhere"
    (copy / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    [note] = [note for note in compare(tmp_path / "out", copy)["notes"] if "does not list" in note]
    assert f"{copy}: 3 rows of sessions" in note and "is unknown" in note


def test_a_torn_line_is_named(runs, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(runs["both"], copy)
    with (copy / "records.jsonl").open("a") as file:
        file.write('{"set": "spe')
    assert main([str(copy)]) == 2
    assert re.search(r"records\.jsonl line \d+ is torn .* run its recipe again", capsys.readouterr().err)


def test_the_program_writes_into_the_first_directory(runs, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(runs["both"], copy)
    command = [sys.executable, "-m", "eval.compare", str(copy)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in copy.iterdir()} >= FILES
