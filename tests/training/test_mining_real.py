"""Mining on the real model: the labels of 5 prompts are those of mining by hand, at many times its prompts a minute.

`make test-real`; needs SmolLM2-135M (`make setup` installs it) and the tracked artifacts.
"""

import time

import pytest

from tests.training.mined_by_hand import ByHand
from toolkit.hub import ModelConfig, Models
from toolkit.training import answers
from toolkit.training.mining_search import Miner
from toolkit.training.recipe import DataConfig

pytestmark = pytest.mark.real
LIMIT, PROMPTS = 160, 5
TASK = {"type": "steps", "split": "train", "style": "cot", "steps": [2, 4], "largest": 50, "offset": 1600, "limit": 40}


def test_labels_and_speed():
    models = Models(ModelConfig("smollm2-135m", adapters=["checkpoints/smollm2-cot"]))
    draft = models.load(ModelConfig("checkpoints/smollm2-cot-distilled"))
    asked = answers.asked(DataConfig([TASK]), models.target.tokenizer, "test")
    hand = ByHand(models.target, draft, LIMIT)
    began = time.perf_counter()
    expected = {one.key: hand.labels(one) for one in asked[:PROMPTS]}
    slow = (time.perf_counter() - began) / PROMPTS
    done = {}
    miner = Miner(
        models.target,
        draft,
        limit=LIMIT,
        batch=32,
        window=4,
        states=("target", "draft"),
        done=lambda search: done.update({search.asked.key: search}),
    )
    began = time.perf_counter()
    miner.run(asked)
    fast = (time.perf_counter() - began) / len(asked)
    for key, (labels, answer) in expected.items():
        own = [(one.position, one.target_token, one.draft_token, one.important) for one in done[key].decided]
        assert (own, done[key].answer) == (labels, answer)
    print(f"a prompt takes {slow:.2f} s by hand, {fast:.2f} s in rows: {slow / fast:.1f} times")
    assert slow > 5 * fast
