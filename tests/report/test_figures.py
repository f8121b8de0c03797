"""Figures of the report, worked out again from the rows."""

from collections import defaultdict

import numpy as np
import pytest
from scipy.stats import binomtest

from tests.report.synthetic import METHODS, Made, Size, write
from toolkit.report.content import page
from toolkit.report.page import Chart, Table


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """-> its rows by (set, method), its tables and its charts."""
    directory = tmp_path_factory.mktemp("run") / "gsm8k"
    rows = defaultdict(list)
    for row in write(directory, size=Size(quality=60, speed=10), failing=1):
        rows[row.set, row.method].append(row)
    found = [part for section in page([directory]).sections for part in section.parts]
    charts = {part.name: part for part in found if isinstance(part, Chart)}
    return rows, {part.name: part for part in found if isinstance(part, Table)}, charts


def table(run, name, **where):
    """The one row of a table whose columns are so, by key."""
    found = run[1][name]
    keys = [column.key for column in found.columns]
    rows = [dict(zip(keys, row, strict=True)) for row in found.rows]
    [row] = [row for row in rows if all(row[key] == value for key, value in where.items())]
    return row


def total(rows, key):
    return sum(row.times["total"] if key == "seconds" else getattr(row, key) for row in rows)


def test_speed_is_a_ratio_of_sums(run):
    rows = run[0]
    for name in ("ngram", "draft_k=8", "fuzzy"):
        mine, base = rows["speed", name], rows["speed", "baseline"]
        pace = [total(some, "n_tokens") / total(some, "seconds") for some in (mine, base)]
        row = table(run, "headline", method=name)
        assert row["tokens_per_second"].value == pytest.approx(pace[0])
        assert row["speedup"].value == pytest.approx(pace[0] / pace[1])
        assert row["speedup"].low < row["speedup"].value < row["speedup"].high
        assert row["tau"].value == pytest.approx(total(mine, "n_tokens") / total(mine, "rounds"))
        assert row["tau"].low < row["tau"].value < row["tau"].high
        shown = row["speedup"].low > 1 or row["speedup"].high < 1
        assert (row["speed_verdict"] in ("faster", "slower")) == shown
    assert table(run, "headline", method="draft_k=4")["speed_verdict"] == "faster"


def test_accuracy_is_paired(run):
    rows = run[0]
    base = {row.prompt_id: row.correct for row in rows["quality", "baseline"]}
    for name in ("fuzzy", "gated"):
        mine = {row.prompt_id: row.correct for row in rows["quality", name]}
        lost = sum(base[key] and not mine[key] for key in base)
        gained = sum(mine[key] and not base[key] for key in base)
        row = table(run, "headline", method=name)
        assert row["accuracy"].value == pytest.approx(sum(mine.values()) / 60)
        assert row["accuracy_difference"].value == pytest.approx((gained - lost) / 60)
        assert row["p"] == pytest.approx(binomtest(gained, lost + gained).pvalue)
        assert (row["accuracy_verdict"] == "no difference shown") == (row["p"] > 0.05)
    exact = table(run, "headline", method="ngram")
    assert exact["accuracy_verdict"] == "the baseline's" and exact["quality_prompts"] is None


def test_acceptance_by_position(run):
    mine = run[0]["speed", "draft_k=4"]
    conditional = table(run, "acceptance_conditional", method="draft_k=4")
    windows = [window for row in mine for window in row.windows]
    proposed = [w[0] + len(w) - 1 for w in windows]
    for place in range(4):
        reached = [w[0] for w, n in zip(windows, proposed, strict=True) if n > place and w[0] >= place]
        assert conditional[f"position_{place + 1}"] == pytest.approx(sum(a > place for a in reached) / len(reached))
    assert table(run, "acceptance_conditional", method="draft_k=2")["position_3"] is None
    assert len(table(run, "acceptance_conditional", method="draft_k=8")) == 9
    tau = table(run, "tau", method="draft_k=4")
    assert tau["acceptance_rate"].value == pytest.approx(total(mine, "accepted") / total(mine, "proposed"))
    assert tau["drafts"] == sum(n > 0 for n in proposed)


def test_a_picture_has_no_place_that_few_drafts_reached(run):
    mine = run[0]["speed", "draft_k=8"]
    reached = [sum(one.reached_at[i] for one in mine if i < len(one.reached_at)) for i in range(8)]
    known = table(run, "acceptance_conditional", method="draft_k=8")
    [drawn] = [one.points for one in run[2]["acceptance_by_position"].series if one.name == "draft_k=8"]
    assert [point.x for point in drawn] == [i for i, count in enumerate(reached, start=1) if count >= 30]
    assert 1 <= len(drawn) < 8 and known["position_8"] is not None
    assert all(point.y == known[f"position_{point.x}"] for point in drawn)


def test_p99_of_a_few_answers_is_in_no_picture(run):
    assert [series.name for series in run[2]["latency_answer"].series] == ["p50", "p90"]
    assert table(run, "latency", method="ngram")["answer_p99_ms"] > 0
    assert run[1]["latency"].notes == ["9 answers a method: p99 is close to the slowest of them, and in no picture"]


def test_latency(run):
    mine = run[0]["speed", "ngram"]
    row = table(run, "latency", method="ngram")
    seconds = [one.times["total"] for one in mine]
    for p in (50, 90, 99):
        assert row[f"answer_p{p}_ms"] == pytest.approx(1e3 * np.percentile(seconds, p))
        first = 1e3 * np.percentile([one.first_token_seconds for one in mine], p)
        assert row[f"first_token_p{p}_ms"] == pytest.approx(first)
    pace = [
        (one.times["total"] - one.first_token_seconds) / (one.n_tokens - 1 - one.windows[0][0])
        for one in mine
        if one.n_tokens > 1 + one.windows[0][0]
    ]
    assert row["per_token_p50_ms"] == pytest.approx(1e3 * np.median(pace))


def test_phases(run):
    mine = run[0]["speed", "fuzzy"]
    row = table(run, "phases", method="fuzzy")
    assert [row[f"{phase}_share"] for phase in ("prefill", "draft", "verify", "host")] == pytest.approx(
        [0.1, 0.2, 0.6, 0.1]
    )
    assert row["token_ms"] == pytest.approx(1e3 * total(mine, "seconds") / total(mine, "n_tokens"))
    stacked = {series.name: series.points for series in run[2]["phases"].series}
    whole = sum(point.y for points in stacked.values() for point in points if point.x == "fuzzy")
    assert whole == pytest.approx(row["token_ms"])


def test_windows_are_of_methods_that_differ_in_nothing_else(run):
    found = run[1]["windows"]
    assert [(row[0], row[1]) for row in found.rows] == [("draft", 2), ("draft", 4), ("draft", 8)]
    row = table(run, "windows", window=8)
    mine = run[0]["speed", "draft_k=8"]
    assert row["proposed_per_token"] == pytest.approx(total(mine, "proposed") / total(mine, "n_tokens"))
    assert row["speedup"] == table(run, "headline", method="draft_k=8")["speedup"]


def test_whose_tokens(run):
    rows = run[0]
    said = "".join(row.sources for name in ("speed", "quality") for row in rows[name, "gated"] if row.ok)
    row = table(run, "tokens-of-gated-methods-by-model", method="gated")
    assert row["target_share"] == pytest.approx(said.count("t") / len(said))
    assert row["draft-1_share"] == pytest.approx(said.count("1") / len(said)) and row["total"] == len(said)
    routed = defaultdict(int)
    for one in rows["speed", "routed"]:
        for draft, rounds in one.routed.items():
            routed[draft] += rounds
    row = table(run, "rounds-of-routers-by-draft", **{"method-and-domain": "routed: gsm8k"})
    assert row["code_share"] == pytest.approx(routed["code"] / sum(routed.values()))


def test_tokens_of_answers(run):
    mine = run[0]["quality", "fuzzy"]
    row = table(run, "answer_tokens", method="fuzzy")
    right = sum(one.correct for one in mine)
    assert row["tokens_mean"].value == pytest.approx(total(mine, "n_tokens") / 60)
    assert row["tokens_per_correct"].value == pytest.approx(total(mine, "n_tokens") / right)
    assert row["cut"] == sum(one.finish == "length" for one in mine) / 60
    assert {row[2] for row in run[1]["answer_tokens"].rows} == {"baseline", "fuzzy", "gated"}


def test_failures(run):
    error = table(run, "errors", method="gated")
    assert (error["error_type"], error["rows"], error["prompts"]) == ("RuntimeError", 1, "gsm8k-0")
    rows = run[0]["quality", "fuzzy"]
    cut = table(run, "truncated", method="fuzzy", set="quality")
    assert cut["cut"] == sum(row.finish == "length" for row in rows) and cut["rows"] == 60
    for path in ("marker", "none"):
        found = [row for row in rows if row.extraction == path]
        row = table(run, "wrong_answers", method="fuzzy", extraction=path)
        assert (row["right"], row["wrong"]) == (
            sum(one.correct for one in found),
            sum(not one.correct for one in found),
        )


def test_the_front(run):
    places = {row[0]: (row[2].value, row[3].value) for row in run[1]["front"].rows}
    marked = {point.label for series in run[2]["front"].series for point in series.points if point.marked}
    beaten = {
        name
        for name, (x, y) in places.items()
        if any(a >= x and b >= y and (a, b) != (x, y) for a, b in places.values())
    }
    assert marked == places.keys() - beaten and beaten
    assert set(places) == {one.name for one in METHODS}
    volume = table(run, "hypervolume", of="everything")
    assert volume["methods"] == len(METHODS) and 0 < volume["hypervolume"].low < volume["hypervolume"].high


def test_the_certificate(run):
    row = table(run, "certificate", method="ngram")
    assert (row["equal"], row["compared"], row["near_ties"], row["differ"]) == (9, 10, 1, 0)
    assert row["equality"].value == 0.9 and row["state"] == "claimed, and 10 texts agree, but for near-ties"
    lossy = table(run, "certificate", method="fuzzy")
    assert lossy["state"] == "not claimed" and lossy["near_ties"] is None and lossy["claims_exact"] is False


def test_provenance(run):
    session = table(run, "sessions")
    assert session["rows"] == sum(map(len, run[0].values())) and session["torch"] == "2.13.0+cpu"
    assert table(run, "runs")["command"].startswith("python -m eval ")
    assert table(run, "models")["fingerprint"] == "f" * 64
    assert table(run, "methods", method="ngram")["proposer"] == "ngram, min 1, max 3"


def test_targets_beside_each_other(tmp_path):
    """The same problems, plain decoding: tokens of an answer as a ratio, accuracies as a difference."""
    answers = []
    for seed, adapters in enumerate(([], ["checkpoints/cod"])):
        size = Size(quality=40, speed=0, tokens=48 - 16 * seed)
        rows = write(tmp_path / str(seed), METHODS[:1], adapters=adapters, seed=seed, size=size)
        answers.append({row.prompt_id: row for row in rows})
    found = [part for one in page([tmp_path / "0", tmp_path / "1"]).sections for part in one.parts]
    beside = ({}, {part.name: part for part in found if isinstance(part, Table)}, {})
    row = table(beside, "answer_tokens_paired")
    tokens = [sum(one.n_tokens for one in side.values()) for side in answers]
    right = [sum(one.correct for one in side.values()) / 40 for side in answers]
    assert row["target"].endswith("cod") and row["prompts"] == 40
    assert row["tokens_ratio"].value == pytest.approx(tokens[1] / tokens[0]) and row["tokens_verdict"] == "shorter"
    assert row["accuracy_difference"].value == pytest.approx(right[1] - right[0])
    lower = row["accuracy_difference"].high < 0
    assert row["accuracy_verdict"] == ("lower" if lower else "no difference shown")


@pytest.mark.parametrize(("tasks", "of"), [(2, "method"), (3, "task")])
def test_what_there_is_more_of_stands_beside_the_bars(tmp_path, tasks, of):
    """So that colours are few, however many methods there are."""
    for seed, task in enumerate(["gsm8k", "steps", "code"][:tasks]):
        write(tmp_path / task, METHODS[:4], task=task, seed=seed, size=Size(quality=0, speed=6))
    [chart, figures] = [
        part for one in page(sorted(tmp_path.iterdir())).sections if one.id == "tasks" for part in one.parts
    ]
    assert chart.x_label == of and len(chart.series) == min(tasks, 3)
    found = {(series.name, point.x): point.y for series in chart.series for point in series.points}
    for method, *speedups in figures.rows:
        for column, speedup in zip(figures.columns[1:], speedups, strict=True):
            assert found[(column.title, method) if of == "method" else (method, column.title)] == speedup.value


def test_cells_of_a_grid_with_a_window_and_another_option(tmp_path):
    """A family for each value of the other option."""
    methods = [METHODS[0]]
    for passes in (0.5, 0.9):
        proposer = {"type": "draft_model", "model": f"draft-{passes}"}
        methods += [Made(f"d{passes}_k={k}", window=k, passes=passes, proposer=proposer) for k in (4, 2)]
    write(tmp_path / "grid", methods)
    [windows] = [part for one in page([tmp_path / "grid"]).sections if one.id == "windows" for part in one.parts[1:]]
    names = ["d0.5_k=2 … d0.5_k=4", "d0.9_k=2 … d0.9_k=4"]
    assert [(row[0], row[1]) for row in windows.rows] == [(name, k) for name in names for k in (2, 4)]
