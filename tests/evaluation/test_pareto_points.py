"""Points, who is below whom, hypervolumes and equal speed, of rows whose figures can be worked out by hand."""

import math

import numpy as np
import pytest

from tests.evaluation.rows import row
from toolkit.evaluation.joined import Joined
from toolkit.evaluation.paired import paired
from toolkit.evaluation.pareto import hypervolume
from toolkit.evaluation.pareto_points import (
    at_the_speed_of,
    dominated,
    overlap,
    points,
    volumes,
)
from toolkit.evaluation.pareto_tables import equal_speed, methods
from toolkit.evaluation.stats import Interval, ends
from toolkit.export.figures import NONE

N, BLOCKS = 20, 6


def answers(method, right):
    """N questions, those in `right` answered right."""
    return {(f"p{i:02}", 0): row(method, f"p{i:02}", set="quality", correct=i in right) for i in range(N)}


def timed(method, speedup, spread=0.0, blocks=BLOCKS):
    """Blocks of one prompt; every other one is faster by `spread`, and the next slower."""
    return [
        row(
            method, f"p{i:02}", tokens=10, seconds=1 / (speedup + spread * (-1) ** i), block=i, batch_key=f"{method}{i}"
        )
        for i in range(blocks)
    ]


def joined(**methods):
    """name -> (grid, cell's value, right answers or None where lossless, speedup or None where not timed, ...)"""
    base = timed("baseline", 1.0)
    found = Joined({}, {}, {"baseline": answers("baseline", range(10))}, {"baseline": (base, base)}, {}, [])
    found.methods["baseline"] = {"lossless": True, "grid": None, "accept": {"type": "rejection"}}
    for name, (grid, right, speedup, *spread) in methods.items():
        place = {"name": grid, "values": {"accept.T": name}, "place": [0]} if grid else None
        accept = {"type": "topk", "k": "all"} if name == "control" else {"type": "fuzzy"}
        found.methods[name] = {"lossless": right is None, "grid": place, "accept": accept}
        if right is not None:
            found.answers[name] = answers(name, right)
        if speedup is None:
            found.untimed[name] = "no time"
        else:
            found.timed[name] = (timed(name, speedup, *spread), base)
    return found


def placed(rows):
    return [point for point in points(rows) if point.placed]


MANY = joined(
    plain=(None, None, 1.5),
    a1=("a", range(10), 1.2),
    a2=("a", range(8), 1.6),
    a3=("a", range(4), 2.0),
    a4=("a", range(12), None),
    b1=("b", range(9), 1.4),
    b2=("b", range(2, 8), 1.8),
    control=(None, range(2), 2.5),
)


def test_a_lossless_method_has_the_baselines_accuracy():
    found = {point.method: point for point in points(MANY)}
    assert found["plain"].xy == (pytest.approx(1.5), 0.5)
    assert found["baseline"].xy == (1.0, 0.5)
    assert found["plain"].paired is None and found["plain"].quality.inherited
    assert (found["a2"].family, found["a2"].values) == ("a", {"accept.T": "a2"})
    assert [name for name, point in found.items() if not point.placed] == ["a4"]
    assert [name for name, point in found.items() if point.control] == ["control"]
    assert found["a2"].accuracy.low < 0.4 < found["a2"].accuracy.high


def test_who_is_below_whom():
    """The fastest that dominates is named: as accurate as AR and faster are plain and, of the lossy ones, nobody."""
    below = {name: winner.method for name, winner in dominated(placed(MANY)).items()}
    assert below == {"baseline": "plain", "a1": "plain", "b1": "plain"}
    everyone = {point.method for point in placed(MANY)}
    assert everyone - below.keys() == {"plain", "a2", "a3", "b2", "control"}


def test_intervals_that_overlap_are_said():
    rows = joined(a=("g", range(10), 1.5), b=("g", range(9), 1.45, 0.3), c=("g", [], 1.2), d=("g", range(10), 1.2))
    by_name = {point.method: point for point in placed(rows)}
    assert overlap(by_name["b"], by_name["a"]) == ["speed", "accuracy"]
    assert overlap(by_name["c"], by_name["a"]) == []
    assert overlap(by_name["d"], by_name["a"]) == ["accuracy"]


def test_few_blocks_know_no_bounds_and_rule_nothing_out():
    rows = joined(a=("g", range(10), 1.5), b=("g", range(10), 1.2))
    base = rows.timed["baseline"][0]
    rows.timed["b"] = (timed("b", 1.2, blocks=3), base)
    by_name = {point.method: point for point in placed(rows)}
    assert math.isnan(by_name["b"].speedup.low)
    assert overlap(by_name["b"], by_name["a"]) == ["speed", "accuracy"]


@pytest.mark.parametrize(
    ("right", "lost", "gained", "p", "verdict"),
    [
        (range(10), 0, 0, 1.0, "no difference shown"),
        (range(9), 1, 0, 1.0, "no difference shown"),
        (range(4), 6, 0, 2 / 2**6, "lower"),
        (range(20), 0, 10, 2 / 2**10, "higher"),
        ([*range(6), 10, 11], 4, 2, 0.6875, "no difference shown"),
    ],
)
def test_answers_are_compared_in_pairs(right, lost, gained, p, verdict):
    found = paired(answers("a", right), answers("baseline", range(10)))
    assert (found.n, found.lost, found.gained, found.verdict) == (N, lost, gained, verdict)
    assert found.p == pytest.approx(p)
    assert found.difference.value == pytest.approx((gained - lost) / N)
    assert found.difference.low <= found.difference.value <= found.difference.high


def test_only_questions_of_both_count_and_several_seeds_have_no_p():
    mine, base = answers("a", range(4)), answers("baseline", range(10))
    fewer = {key: mine[key] for key in sorted(mine)[:8]}
    assert (paired(fewer, base).n, paired(fewer, base).lost) == (8, 4)
    assert paired({}, base) is None
    again = {(prompt, 1): one for (prompt, _), one in mine.items()}
    found = paired(mine | again, base | {(prompt, 1): one for (prompt, _), one in base.items()})
    assert (found.n, found.lost, found.p, found.verdict) == (2 * N, 12, None, "lower")
    once = paired(mine, base)
    assert (found.difference.low, found.difference.high) == (once.difference.low, once.difference.high)


def test_hypervolume_of_everything_and_of_families():
    found = {volume.of: volume for volume in volumes(MANY, placed(MANY), (1.0, 0.0))}
    assert {name: volume.points for name, volume in found.items()} == {"everything": 8, "a": 3, "b": 2}
    # a1 0.2 x 0.5, a2 0.6 x 0.4, a3 1.0 x 0.2, each beyond what is below it
    assert found["a"].value == pytest.approx(1.0 * 0.2 + 0.6 * 0.2 + 0.2 * 0.1)
    assert all(volume.low <= volume.value <= volume.high for volume in found.values())
    moved = {volume.of: volume.value for volume in volumes(MANY, placed(MANY), (1.4, 0.25))}
    assert moved["a"] == pytest.approx(0.2 * 0.15)


def test_the_interval_is_that_of_prompts_drawn_anew():
    """Beside a bootstrap written out, with other draws."""
    rows = joined(a1=("a", range(12), 1.3, 0.2), a2=("a", range(5, 11), 1.9, 0.5))
    [_, found] = volumes(rows, placed(rows), (1.0, 0.0))
    random = np.random.default_rng(5)
    right = {name: [i in those for i in range(N)] for name, those in {"a1": range(12), "a2": range(5, 11)}.items()}
    draws = []
    for _ in range(2000):
        blocks, prompts = random.integers(BLOCKS, size=BLOCKS), random.integers(N, size=N)
        drawn = []
        for name in ("a1", "a2"):
            seconds = sum(rows.timed[name][0][i].times["total"] for i in blocks)
            drawn.append([BLOCKS / seconds, sum(right[name][i] for i in prompts) / N])
        draws.append(hypervolume(np.array(drawn), (1.0, 0.0)))
    low, high = ends(np.array(draws), min(BLOCKS, N))
    assert (found.low, found.high) == (pytest.approx(low, abs=0.03), pytest.approx(high, abs=0.03))
    assert found.high - found.low > 0.2


def test_too_few_blocks_have_a_hypervolume_without_an_interval():
    rows = joined(a1=("a", range(10), 1.2), a2=("a", range(8), 1.6))
    base = timed("baseline", 1.0, blocks=4)
    rows.timed.update({name: (timed(name, 1.5, blocks=4), base) for name in ("baseline", "a1", "a2")})
    assert all(math.isnan(volume.low) for volume in volumes(rows, placed(rows), (1.0, 0.0)))


def test_at_equal_speed():
    found = {one.family: one for one in at_the_speed_of(MANY, placed(MANY), ["b1"])}
    assert found.keys() == {"a", "lossless"}, "its own family, and lossy methods alone, are no family to look up"
    one = found["a"]
    assert (one.reference.method, one.cell.method) == ("b1", "a2")
    assert one.interpolated == pytest.approx(0.45)  # half way between (1.2, 0.5) and (1.6, 0.4)
    assert (one.paired.lost, one.paired.gained) == (0, 1)
    assert one.paired.difference.value == pytest.approx(1 / N)
    assert one.paired.difference.low == 0 < one.paired.difference.high  # prompts drawn anew: the one gained, or not
    exact = found["lossless"]
    assert (exact.cell.method, exact.interpolated) == ("plain", 0.5)
    assert (exact.paired.lost, exact.paired.gained) == (1, 0)
    nobody = {one.family: one for one in at_the_speed_of(MANY, placed(MANY), ["control"])}
    assert [(one.cell, one.interpolated, one.paired) for one in nobody.values()] == [(None, None, None)] * 3
    of_plain = {one.family: one for one in at_the_speed_of(MANY, placed(MANY), ["plain"])}
    assert of_plain.keys() == {"a", "b"}
    assert (of_plain["b"].cell.method, of_plain["b"].paired.lost, of_plain["b"].paired.gained) == ("b2", 0, 4)


def test_what_is_lossless_is_one_family_whatever_its_grid():
    """A grid of plain speculative decoding, a judge's threshold 0, and a method alone: the fastest stands for them."""
    rows = joined(
        plain4=("plain", None, 1.3),
        plain8=("plain", None, 1.5),
        judge0=("judge", None, 1.6),
        judge1=("judge", range(9), 1.8),
        alone=(None, range(8), 1.4),
    )
    found = {one.family: one for one in at_the_speed_of(rows, placed(rows), ["alone"])}
    assert found.keys() == {"judge", "lossless"}
    assert found["lossless"].cell.method == found["judge"].cell.method == "judge0"
    table = equal_speed(found.values())
    assert [row[2] for row in table.rows] == ["alone", "judge0 (exact)", "judge0 (exact)"]


def test_the_table_of_equal_speed():
    """By hand: b1 calls the target 10 times for 10 tokens, a2 5 times."""
    rows = joined(
        b1=("b", range(9), 1.4),
        a1=("a", range(10), 1.2),
        a2=("a", range(8), 1.6),
        control=("a", range(2), 2.5),
    )
    halved = [
        row("a2", f"p{i:02}", seconds=1 / 1.6, block=i, batch_key=f"a2{i}", windows=[(1, 1)] * 5) for i in range(BLOCKS)
    ]
    rows.timed["a2"] = (halved, rows.timed["baseline"][0])
    by_name = {point.method: point for point in placed(rows)}
    assert (by_name["b1"].calls, by_name["a2"].calls) == (1.0, 0.5)
    table = equal_speed(at_the_speed_of(rows, placed(rows), ["b1"]))
    [itself, beside, exact] = [dict(zip(table.columns, line, strict=True)) for line in table.rows]
    assert (itself["method"], itself["speedup [95%]"]) == ("b1", "1.40x [1.40, 1.40]")
    assert itself["accuracy [95%]"].startswith("45.0% [") and itself["target calls / token"] == "1.000"
    assert (beside["at the speed of"], beside["family"], beside["method"]) == ("b1", "a", "a2")
    assert (beside["target calls / token"], beside["interpolated"], beside["lost / gained"]) == (
        "0.500",
        "45.0%",
        "0 / 1",
    )
    assert beside["difference [95%]"].startswith("+5.0 [+0.0, ") and beside["p"] == "1"
    assert (exact["family"], exact["method"]) == ("lossless", "nobody as fast")
    assert any("picked by this table; not corrected" in note and "for 1 comparisons" in note for note in table.notes)
    rows.timed["b1"] = (timed("b1", 2.2), rows.timed["baseline"][0])
    faster = equal_speed(at_the_speed_of(rows, placed(rows), ["b1"]))
    assert [line[2] for line in faster.rows] == ["b1", "control (control)", "nobody as fast"]


def test_calls_a_token_are_of_the_whole_quality_set():
    """By hand: a gated text of 10 tokens asks 2 times, any other one 10 times; the speed set has figures of its own."""
    found = joined(gate=("g", range(10), 1.5), plain=(None, None, 1.5))
    for one in list(found.answers["gate"].values())[:5]:
        one.rounds = 2
    table = methods(points(found), {})
    shown = {line[0]: line[table.columns.index("calls / token")] for line in table.rows}
    assert shown == {"baseline": "1.000", "gate": "0.800", "plain": NONE}
    assert [line[table.columns.index("tau")] for line in table.rows] == ["1.00"] * 3


def test_the_baseline_is_one():
    [baseline, *_] = points(MANY)
    assert baseline.speedup == Interval(1.0, 1.0, 1.0)
