"""Rounds that are walked through by hand."""

import pytest
import torch

from toolkit.training.walk import Walk, total, walk

HITS = torch.tensor(  # one draft, so the same at each depth: places 0, 1, 3, 4, 5 are hits
    [[1, 1, 0, 1, 1, 1]] * 3, dtype=torch.bool
)


def test_windows_stand_up_to_their_first_miss():
    """k=3: places 0 and 1 stand, the target says 2; then 3, 4, 5 stand and the text has ended with them."""
    found = walk(HITS, ended=True)
    assert (found.rounds, found.emitted, found.tau) == (2, 6, 3.0)
    assert (found.drafted, found.accepted) == ([2, 2, 2], [2, 2, 1])


def test_the_last_token_of_a_limit_is_not_drafted():
    """The second round has room for two drafted tokens and the target's own."""
    found = walk(HITS, ended=False)
    assert (found.rounds, found.drafted, found.accepted) == (2, [2, 2, 1], [2, 2, 0])


def test_a_window_of_one():
    found = walk(HITS[:1], ended=False)
    assert (found.rounds, found.accepted) == (4, [2])  # 0+1, 2, 3+4, 5 (no room to draft)


def test_depths_have_their_own_hits():
    """A head drafts place 1 from place 0 and from itself: they may differ."""
    hits = torch.tensor([[1, 0, 1, 1], [0, 1, 0, 1]], dtype=torch.bool)
    found = walk(hits, ended=True)
    assert found.rounds == 2 and found.accepted == [2, 1]  # 0 and 1, the target says 2; then 3, and the end


def test_a_mean_over_positions_is_another_number():
    found = walk(HITS, ended=True)
    assert (found.positions, found.position_hits) == ([6, 4, 2], [5, 3, 1])
    assert found.acceptance == pytest.approx(5 / 6)


def test_sums_and_vectors():
    one, other = walk(HITS, ended=True), walk(HITS, ended=False)
    assert Walk.of(one.vector()) == one
    both = total([one, other], 3)
    assert (both.rounds, both.emitted, both.accepted) == (4, 12, [4, 4, 1])
    assert total([], 3) == Walk.empty(3) and Walk.empty(3).tau == 0.0
    assert both.figures()["accepted_by_position"] == [1.0, 1.0, 0.3333]
