"""Greedy equality: near-ties are counted apart, everything else that differs is a bug."""

import pytest
import torch

from tests.evaluation.rows import row
from toolkit.evaluation.equality import compare, first_difference, near_tie


@pytest.mark.parametrize(
    ("left", "right", "position"),
    [([1, 2, 3], [1, 2, 3], None), ([1, 2, 3], [1, 9, 3], 1), ([1, 2], [1, 2, 3], 2), ([], [1], 0), ([], [], None)],
)
def test_first_difference(left, right, position):
    assert first_difference(left, right) == position


def texts(method, *each, **changes):
    return [row(method, f"p{i}", **changes | {"tokens": len(t)}) for i, t in enumerate(each)]


def with_tokens(method, each, **changes):
    rows = texts(method, *each, **changes)
    for made, tokens in zip(rows, each, strict=True):
        made.tokens = tokens
    return rows


def test_near_ties_are_counted_apart():
    base = with_tokens("baseline", [[1, 2, 3], [4, 5, 6], [7, 8, 9], [1, 1, 1]])
    mine = with_tokens("ngram", [[1, 2, 3], [4, 0, 6], [7, 8, 0], [1, 1]])
    asked = []

    def gap_of(prompt, agreed):
        asked.append((prompt, agreed))
        return {"p1": 0.0004, "p2": 2.5}[prompt]

    e = compare(mine, base, gap_of, near_tie(torch.float32))
    assert (e.n, e.equal, e.near_ties, e.bugs, e.rate) == (4, 1, 1, 2, 0.25)
    assert asked == [("p1", [4]), ("p2", [7, 8])]  # the text that both agree on, and for the prefix nothing
    assert [d.gap for d in e.differences] == [0.0004, 2.5, None]


def test_a_lossy_method_may_differ():
    base = with_tokens("baseline", [[1, 2]])
    e = compare(with_tokens("topk", [[1, 3]], lossless=False), base, lambda *_: pytest.fail("measured"), 1e-3)
    assert (e.equal, e.bugs, e.differences) == (0, 0, [])


def test_half_precision_is_given_more_room():
    assert near_tie(torch.bfloat16) > near_tie(torch.float32)


def test_nothing_to_compare():
    assert compare([row(status="error")], [row("baseline")], lambda *_: 0.0, 1e-3) is None
