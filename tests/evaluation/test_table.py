"""What the tables say about hand-made rows."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from tests.evaluation.test_score import BASE, NGRAM, judged
from toolkit.evaluation import table
from toolkit.evaluation.equality import Equality
from toolkit.evaluation.report import qualities, speeds

NAMES = ["baseline", "ngram", "topk"]
ROWS = [*BASE, *NGRAM, *judged("baseline", [True, False]), *judged("topk", [True, True])]
QUALITY = qualities(ROWS, NAMES)
SPEED = speeds(ROWS, NAMES, QUALITY)


def cells(drawn, method):
    [line] = [line for line in drawn.rows if line[0] == method]
    return dict(zip(drawn.columns, line, strict=True))


def test_speed():
    equal = {"ngram": Equality("ngram", lossless=True, n=2, equal=1, near_ties=1)}
    drawn = table.speed_table(SPEED, equal)
    assert drawn.title == "Speed (n=2, batch 1, timed)"
    assert cells(drawn, "baseline")["speedup [95%]"] == "1.00x"
    ngram = cells(drawn, "ngram")
    assert ngram["tok/s"] == "9.7"
    assert ngram["speedup [95%]"] == "1.93x [–]"
    assert "ngram: 2 blocks: too few for an interval (5 or more)" in drawn.notes
    assert (ngram["tau"], ngram["accepted"], ngram["acc. len"]) == ("3.22", "80.0%", "3.86")
    assert ngram["= AR greedy"] == "1/2 +1 near-tie"
    assert ngram["s/correct*"] == "2.2"  # 0.15 s prefill and 10 tokens at 0.093 s, one answer of two right


# six blocks, those of BASE and NGRAM in turn: enough for an interval
LONG_BASE = [replace(BASE[i % 2], prompt_id=f"p{i}", block=i, batch_key=f"b{i}") for i in range(6)]
LONG_NGRAM = [replace(NGRAM[i % 2], prompt_id=f"p{i}", block=i, batch_key=f"n{i}") for i in range(6)]
LONG = speeds([*LONG_BASE, *LONG_NGRAM], NAMES, [])


def test_an_interval_from_five_blocks_on():
    drawn = table.speed_table(LONG, {})
    assert cells(drawn, "ngram")["speedup [95%]"].startswith("1.93x [1.8")  # either block alone: 9 / 5 and 10 / 5
    assert not any("too few" in note for note in drawn.notes)


def test_rows_that_are_in_no_speedup_are_counted():
    notes = table.speed_warnings([replace(LONG[1], unpaired=3)])
    assert any("ngram: 3 of its rows are not in the speedup" in note for note in notes)
    assert not any("not in the speedup" in note for note in table.speed_warnings(LONG))


@pytest.mark.parametrize(("device", "said"), [("cuda", True), ("cpu", False)])
def test_phases_of_a_gpu_are_launch_times(device, said):
    notes = table.time_table(LONG, "x", device).notes
    assert any("time to launch" in note for note in notes) == said


def test_positions():
    drawn = table.position_table(SPEED)
    assert cells(drawn, "ngram") == {
        "method": "ngram",
        "1": "86% / 86%",
        "2": "71% / 83%",
        "3": "71% / 100%",
        "4": "57% / 80%",
    }
    assert table.position_table(SPEED[:1]) is None


def test_quality():
    drawn = table.quality_table(QUALITY, "accuracy")
    assert drawn.title == "Quality (n=2, batched, never timed)"
    assert cells(drawn, "baseline")["accuracy [95%]"] == "50.0% [9.5, 90.5]"
    assert cells(drawn, "ngram")["accuracy [95%]"] == "= AR (lossless)"
    assert (cells(drawn, "topk")["lost / gained"], cells(drawn, "topk")["p"]) == ("0 / 1", "1")
    assert cells(drawn, "baseline")["p"] == cells(drawn, "ngram")["p"] == "–"
    assert drawn.notes[1:] == ["accuracy beside AR's, no difference shown: topk"]


def test_verdicts_go_by_the_test():
    base = judged("baseline", [True] * 8 + [False] * 2)
    rows = [*base, *judged("worse", [False] * 10), *judged("same", [True] * 6 + [False] * 4)]
    drawn = table.quality_table(qualities(rows, ["baseline", "worse", "same"]), "pass@1")
    assert "pass@1 [95%]" in drawn.columns
    assert [(cells(drawn, name)["lost / gained"], cells(drawn, name)["p"]) for name in ("worse", "same")] == [
        ("8 / 0", "0.0078"),
        ("2 / 0", "0.5"),
    ]
    assert drawn.notes[1:] == [
        "pass@1 beside AR's, no difference shown: same",
        "pass@1 beside AR's, lower: worse",
        "p is not corrected for the number of methods",
    ]


def test_a_speed_that_may_be_the_baselines_is_said():
    alike = [replace(r, method="ngram", batch_key=f"n{i}") for i, r in enumerate(LONG_BASE)]
    slower = [replace(r, times={**r.times, "total": r.times["total"] * 1.01**i}) for i, r in enumerate(alike)]
    even = [replace(r, times={**r.times, "total": r.times["total"] * 1.01 ** (-1) ** i}) for i, r in enumerate(alike)]
    found = [speeds([*LONG_BASE, *rows], NAMES, [])[1] for rows in (alike, slower, even)]
    found.append(LONG[1])
    said = [[note for note in table.speed_warnings([one]) if "no difference shown" in note] for one in found]
    assert [len(notes) for notes in said] == [1, 0, 1, 0]
    assert said[0] == ["speed beside the baseline's, no difference shown (1 is within the interval): ngram"]


def test_an_exact_method_faster_than_its_tau_is_suspect():
    slow = [replace(r, times={**r.times, "total": 50.0}) for r in LONG_BASE]
    [_, ngram] = speeds([*slow, *LONG_NGRAM], NAMES, [])
    assert ngram.speedup.low > ngram.tau

    def warned(summary):
        return any(n.startswith("WARNING: ngram is exact and faster") for n in table.speed_warnings([summary]))

    assert warned(ngram)
    assert not warned(replace(ngram, lossless=False))
    assert not warned(replace(ngram, batch=8))
    assert not warned(replace(ngram, tau=ngram.speedup.low))
    assert not warned(LONG[1])
    [_, unsure] = speeds([*slow[:4], *LONG_NGRAM[:4]], NAMES, [])
    assert not warned(unsure)  # no bound, no claim


def test_everything_fits_120_columns():
    console = Console(width=table.WIDTH, record=True, file=io.StringIO())
    tables = [
        table.speed_table(LONG, {}),
        table.time_table(LONG, "x", "cuda"),
        table.quality_table(QUALITY, "accuracy"),
    ]
    console.print(table.render(tables, ["note"]))
    text = console.export_text()
    assert cells(tables[0], "ngram")["speedup [95%]"] in text
    assert "…" not in text
    assert "| ngram | yes | 9.7 |" in table.markdown("demo", tables, [])
