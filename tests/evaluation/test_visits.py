"""Visits of a JointAdaSpec policy while decoding, counted against the rounds and questions that there were."""

import dataclasses
import json

import numpy as np
import pytest

from tests.test_joint_pieces import BINS, GREEDY, REQUESTS, SAMPLED, decoder, table
from tests.test_methods import DRAFT, solved
from toolkit.evaluation import visits
from toolkit.evaluation.visits import KNOWN, Counted
from toolkit.hub import ModelConfig, Models


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


def test_a_recipe(tmp_path):
    """Of the whole program: the policy drafts two tokens in every state, and no state of it has a record."""
    models = Models(ModelConfig("tiny-random:llama", device="cpu"))
    (tmp_path / "policy").mkdir()
    table = {"type": "jointadaspec", "policy": solved(tmp_path / "policy", models)}
    method = {"name": "own", "proposer": {"type": "draft_model"} | DRAFT, "length": table, "accept": table}
    read = {"target": "tiny-random:llama", "task": {"type": "steps", "limit": 3}, "methods": [method, "ngram"]}
    recipe = tmp_path / "recipe.yaml"
    read |= {"sampling": {"max_new_tokens": 8}, "speed": {"prompts": 2}, "out": str(tmp_path / "new" / "out")}
    recipe.write_text(json.dumps(read))
    assert visits.main([str(recipe)]) == 0
    found = json.loads((tmp_path / "new" / "out" / "visits.json").read_text())
    assert (found["prompts"], found["known_from"]) == (2, KNOWN)
    (own,) = found["methods"]
    assert (own["method"], own["policy"], own["known"]) == ("own", str(tmp_path / "policy"), 0)
    assert own["states"] == 2 * 2 * 3 and own["visits"] >= 2


def test_a_recipe_without_such_a_policy(capsys):
    assert visits.main(["recipes/eval/demo.yaml"]) == 2
    assert "none has a length of type jointadaspec" in capsys.readouterr().err
