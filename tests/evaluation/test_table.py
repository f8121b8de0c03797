"""What the tables say about hand-made rows."""

import io

from rich.console import Console

from tests.evaluation.rows import row
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
    assert ngram["speedup [95%]"] == "1.93x [1.80, 2.00]"  # either block alone: 9 / 5 and 10 / 5
    assert (ngram["tau"], ngram["accepted"], ngram["acc. len"]) == ("3.22", "80.0%", "3.86")
    assert ngram["= AR greedy"] == "1/2 +1 near-tie"
    assert ngram["s/correct*"] == "3.0"


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
    drawn = table.quality_table(QUALITY)
    assert drawn.title == "Quality (n=2, batched, never timed)"
    assert cells(drawn, "baseline")["accuracy [95%]"] == "50.0% [9.5, 90.5]"
    assert cells(drawn, "ngram")["accuracy [95%]"] == "= AR (lossless)"
    assert cells(drawn, "topk")["lost / gained"] == "0 / 1"


def test_an_exact_method_faster_than_its_tau_is_suspect():
    slow = [row("baseline", f"p{i}", tokens=10, seconds=50.0, block=i) for i in range(2)]
    [_, ngram] = speeds([*slow, *NGRAM], NAMES, [])
    assert ngram.speedup.low > ngram.tau
    assert any("the baseline was slow" in note for note in table.speed_warnings([ngram]))
    assert not any("the baseline was slow" in note for note in table.speed_warnings(SPEED))


def test_everything_fits_120_columns():
    console = Console(width=table.WIDTH, record=True, file=io.StringIO())
    tables = [table.speed_table(SPEED, {}), table.time_table(SPEED, "x"), table.quality_table(QUALITY)]
    console.print(table.render(tables, ["note"]))
    text = console.export_text()
    assert "1.93x [1.80, 2.00]" in text
    assert "…" not in text
    assert "| ngram | yes | 9.7 |" in table.markdown("demo", tables, [])
