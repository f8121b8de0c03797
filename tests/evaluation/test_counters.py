"""What lossy rules count: from a generation to its row, the summaries and the tables."""

from tests.evaluation.rows import row
from toolkit.engine.types import Generation
from toolkit.evaluation import counters, measure
from toolkit.evaluation.records import encode, parse
from toolkit.evaluation.report import qualities, speeds

JUDGED = [
    {"judge_total": 3, "judge_accepted": 2, "judge_rejected": 1},
    {"judge_total": 1, "judge_accepted": 0, "judge_rejected": 1},
]
GATED = {"gate_d1": 5, "gate_d2": 3, "gate_fallback": 2, "gate_seen": 0, "gate_changed": 0}


def rows(set_name: str):
    found = [row("baseline", f"p{i}", block=i, set=set_name, correct=True) for i in range(2)]
    found += [row("judged", f"p{i}", block=i, set=set_name, correct=i == 0, counters=JUDGED[i]) for i in range(2)]
    found += [row("gated", "p0", set=set_name, correct=True, counters=GATED)]
    return [parse(encode(one)) for one in found]  # as they come from a file


NAMES = ["baseline", "judged", "gated"]
SUMS = [{}, {"judge_total": 4, "judge_accepted": 2, "judge_rejected": 2}, GATED]


def test_summaries_have_the_sums():
    quality = qualities(rows("quality"), NAMES)
    assert [one.counters for one in quality] == SUMS
    assert [one.counters for one in speeds(rows("speed"), NAMES, quality)] == SUMS


def test_failed_rows_are_not_counted():
    failed = row("judged", "p9", block=9, status="error", counters=JUDGED[0])
    [_, judged] = speeds([*rows("speed"), failed], NAMES[:2], [])
    assert judged.counters == SUMS[1]


def test_a_row_has_what_its_generation_counted():
    generation = Generation(
        0, 0, 3, tokens=[1, 2, 3], windows=[(2, 2), (1, 0)], rejected=[[], [7]], rounds=1, counters=dict(GATED)
    )
    generation.sources = "12t"
    made = row("gated")
    measure._count(made, generation)
    assert (made.rounds, made.drafts, made.accepted, made.counters) == (1, 2, 2, GATED)
    assert made.windows == [[2], [0, 7]]
    assert parse(encode(made)).sources == "12t"


def test_tables_are_of_who_counted():
    gate, judge = counters.tables(qualities(rows("quality"), NAMES), "quality set")  # in the order of their names
    assert judge.columns == ["method", "total", "accepted", "rejected"]
    assert judge.rows == [["judged", "4", "2 (50.0%)", "2 (50.0%)"]]
    assert gate.rows == [["gated", "5 (50.0%)", "3 (30.0%)", "2 (20.0%)", "0", "0"]]
    assert judge.title == "Counted: judge (quality set)"


def test_without_counters_there_is_no_table():
    assert counters.tables(speeds(rows("speed")[:2], NAMES[:1], []), "speed set") == []
