"""Summaries of hand-made rows against figures worked out by hand."""

from dataclasses import replace

import pytest

from tests.evaluation.rows import row
from toolkit.evaluation.records import encode, parse
from toolkit.evaluation.report import qualities, speeds
from toolkit.evaluation.score import pairs, quality_summary, speed_summary

BASE = [
    row("baseline", "p0", tokens=10, seconds=2.0, block=0),
    row("baseline", "p1", tokens=20, seconds=4.0, block=1),
]
# windows: (4 proposed, 4 accepted) emits 5, (2, 0) emits 1, (0, 0) emits 1, (3, 1) emits 2
NGRAM = [
    row("ngram", "p0", tokens=9, seconds=1.0, block=0, windows=[(4, 4), (2, 0), (0, 0), (3, 1)]),
    row("ngram", "p1", tokens=20, seconds=2.0, block=1, windows=[(4, 3), (4, 4), (4, 4), (4, 4), (0, 0)]),
]


def test_the_definitions():
    s = speed_summary(NGRAM, BASE)
    assert (s.n, s.rows, s.errors, s.tokens, s.seconds) == (2, 2, 0, 29, 3.0)
    assert (s.rounds, s.drafts, s.proposed, s.accepted) == (9, 7, 25, 20)
    assert s.tokens_per_second == pytest.approx(29 / 3)
    assert s.acceptance_rate == 20 / 25
    assert s.tau == pytest.approx(29 / 9)
    assert s.acceptance_length == pytest.approx(1 + 20 / 7)
    assert s.unconditional == pytest.approx([6 / 7, 5 / 7, 5 / 7, 4 / 7])
    assert s.conditional == pytest.approx([6 / 7, 5 / 6, 5 / 5, 4 / 5])
    assert 1 + sum(s.unconditional) == pytest.approx(s.acceptance_length)
    assert s.shares == pytest.approx({"prefill": 0.1, "draft": 0.2, "verify": 0.6, "host": 0.1})
    assert s.round_seconds == pytest.approx(0.9 * 3.0 / 9)
    assert s.speedup.value == pytest.approx((29 / 3) / (30 / 6))
    assert (s.blocks, s.unpaired) == (2, 0)


def test_where_no_draft_got_there_is_no_share():
    s = speed_summary([row("ngram", tokens=2, windows=[(3, 1)])], BASE)
    assert (s.unconditional, s.conditional) == ([1.0, 0.0, 0.0], [1.0, 0.0, None])


def test_the_baseline_has_no_speedup_and_drafts_nothing():
    s = speed_summary(BASE, BASE)
    assert (s.speedup, s.acceptance_rate, s.acceptance_length, s.unconditional) == (None, None, None, [])
    assert s.tau == 1.0


def test_a_batch_is_timed_by_its_last_row():
    batch = [
        row("baseline", "p0", tokens=10, seconds=1.0, batch=2, batch_key="b"),
        row("baseline", "p1", tokens=30, seconds=3.0, batch=2, batch_key="b"),
    ]
    s = speed_summary(batch, batch)
    assert (s.tokens, s.seconds, s.batch) == (40, 3.0, 2)


def test_failed_rows_are_in_no_figure_and_their_block_in_no_pair():
    failed = row("ngram", "p1", tokens=0, seconds=0.0, block=1, windows=[(0, 0)], status="error")
    s = speed_summary([NGRAM[0], failed], BASE)
    assert (s.n, s.errors, s.tokens) == (1, 1, 9)
    assert s.speedup.value == pytest.approx((9 / 1.0) / (10 / 2.0))
    assert len(pairs([NGRAM[0], failed], BASE)) == 1
    assert (s.blocks, s.unpaired) == (1, 0)  # the failed row is counted as an error


def retried(method, alone):
    """Two batches of two prompts; those in `alone` failed as a batch and came through one by one."""
    rows = [row(method, f"p{i}", block=i // 2, batch=2, batch_key=f"b{i // 2}") for i in range(4)]
    return [replace(r, batch=1, batch_key=r.prompt_id) if r.block in alone else r for r in rows]


def test_a_batch_retried_one_by_one_is_compared_with_no_batch():
    for mine, theirs, blocks in [((1,), (), 1), ((), (0,), 1), ((0, 1), (), 0), ((1,), (1,), 2)]:
        s = speed_summary(retried("ngram", mine), retried("baseline", theirs))
        assert (s.blocks, s.unpaired) == (blocks, 2 * (2 - blocks))
    assert speed_summary(retried("baseline", (1,)), retried("baseline", (1,))).unpaired == 0


def test_seeds_of_a_prompt_are_one_pair():
    twice = [row("ngram", "p0", seed=seed, tokens=10, seconds=1.0) for seed in (0, 1)]
    base = [row("baseline", "p0", seed=seed, tokens=10, seconds=3.0) for seed in (0, 1)]
    [pair] = pairs(twice, base)
    assert (pair.tokens, pair.seconds, pair.base_tokens, pair.base_seconds) == (20, 2.0, 20, 6.0)


def test_blocks_timed_apart_are_counted():
    assert speed_summary(NGRAM, BASE).apart == 0
    assert speed_summary([NGRAM[0], row("ngram", "p1", block=1, session="s2")], BASE).apart == 1


def judged(method, verdicts, **changes):
    lossless = method in ("baseline", "ngram")
    return [
        row(method, f"p{i}", set="quality", correct=verdict, extraction="hashes", lossless=lossless, **changes)
        for i, verdict in enumerate(verdicts)
    ]


def test_accuracy_and_what_was_lost():
    base = judged("baseline", [True, True, False, False, False])
    q = quality_summary(judged("topk", [True, False, True, False, False]), base)
    assert (q.n, q.paired.lost, q.paired.gained, q.extraction) == (5, 1, 1, {"hashes": 5})
    assert q.accuracy.value == pytest.approx(0.4)
    assert (q.accuracy.low, q.accuracy.high) == pytest.approx((0.1176, 0.7693), abs=1e-4)  # Wilson for 2 of 5


def test_seeds_do_not_narrow_the_interval():
    once = judged("topk", [True, False])
    both = once + judged("topk", [True, False], seed=1)
    assert quality_summary(both, once).accuracy == quality_summary(once, once).accuracy


def test_without_a_gold_answer_there_is_no_accuracy():
    rows = judged("baseline", [None, None])
    assert (quality_summary(rows, rows).accuracy, quality_summary(rows, rows).n) == (None, 0)


def test_sets_are_not_mixed_and_lossless_methods_inherit():
    rows = [*BASE, *NGRAM, *judged("baseline", [True, False]), *judged("topk", [True, True])]
    rows = [parse(encode(r)) for r in rows]  # as they come from a file
    quality = qualities(rows, ["baseline", "ngram", "topk"])
    assert [(q.method, q.inherited, q.n) for q in quality] == [
        ("baseline", False, 2),
        ("ngram", True, 2),
        ("topk", False, 2),
    ]
    assert quality[1].accuracy == quality[0].accuracy
    speed = speeds(rows, ["baseline", "ngram", "topk"], quality)
    assert [(s.method, s.n, s.tokens) for s in speed] == [("baseline", 2, 30), ("ngram", 2, 29)]
    # prefill, and 10 tokens at the pace after it; half of the answers are right
    assert speed[1].seconds_per_correct == pytest.approx((0.3 / 2 + 2.7 / 29 * 10) / 0.5)
