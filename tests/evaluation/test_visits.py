"""Visits of a JointAdaSpec policy while decoding, counted against the rounds and questions that there were."""

import dataclasses

import numpy as np
import pytest

from tests.test_joint_pieces import BINS, GREEDY, REQUESTS, SAMPLED, decoder, table
from toolkit.evaluation import visits
from toolkit.evaluation.visits import KNOWN, Counted


@pytest.mark.parametrize("sampling", [SAMPLED, GREEDY], ids=["sampled", "greedy"])
def test_visits_by_depth(sampling):
    """Only what follows the first place of a window has records: all but one question a round are well known."""
    records = np.full((*BINS.shape, 2), KNOWN, np.int32)
    records[:, :, 0] = KNOWN - 1
    made = dataclasses.replace(table(), visits=records.reshape(BINS.states, 2))
    decoding = decoder(made, "far")
    asked = decoding.length.asked
    decoding.length = counted = Counted(decoding.length)
    done = decoding.generate(REQUESTS[:1], sampling)[0]
    first = sum(depth == 0 for _, depth, *_ in asked)
    assert 0 < first <= len(done.windows)
    assert (counted.visits, counted.known) == (len(asked), len(asked) - first)


def test_only_the_action_that_is_taken_counts():
    """Records behind `stop` say nothing of a state in which the table drafts on."""
    made = table(stops=0.0)
    behind = np.zeros((BINS.states, 2), np.int32)
    behind[:, 0] = KNOWN
    decoding = decoder(dataclasses.replace(made, visits=behind), "far")
    decoding.length = counted = Counted(decoding.length)
    decoding.generate(REQUESTS[:2], SAMPLED)
    assert counted.visits > 0 and counted.known == 0


def test_counting_changes_no_token():
    own, counted = decoder(table(), "far"), decoder(table(), "far")
    counted.length = Counted(counted.length)
    texts = [[one.tokens for one in decoding.generate(REQUESTS, SAMPLED)] for decoding in (own, counted)]
    assert texts[0] == texts[1]


def test_a_recipe_without_such_a_policy(capsys):
    assert visits.main(["recipes/eval/demo.yaml"]) == 2
    assert "none has a length of type jointadaspec" in capsys.readouterr().err
