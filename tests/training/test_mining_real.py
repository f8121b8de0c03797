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
LIMIT, PROMPTS, BY_HAND = 256, 40, 5
TASK = {"type": "steps", "split": "train", "style": "cot", "steps": [2, 4], "largest": 50, "offset": 1600}


def test_labels_and_speed():
    """By hand only some of the prompts, so minutes are compared by prompt and, as prompts differ, by swap as well."""
    models = Models(ModelConfig("smollm2-135m", adapters=["checkpoints/smollm2-cot"]))
    draft = models.load(ModelConfig("checkpoints/smollm2-cot-distilled"))
    asked = answers.asked(DataConfig([TASK | {"limit": PROMPTS + 1}]), models.target.tokenizer, "test")
    hand = ByHand(models.target, draft, LIMIT)
    done = {}
    miner = Miner(
        models.target,
        draft,
        limit=LIMIT,
        batch=32,
        window=4,
        states=("target",),
        done=lambda search: done.update({search.asked.key: search}),
    )
    hand.labels(asked[-1])  # once before the clock: both are warm
    miner.run(asked[-1:])
    done.clear()
    began = time.perf_counter()
    expected = {one.key: hand.labels(one) for one in asked[: PROMPTS : PROMPTS // BY_HAND]}
    slow = time.perf_counter() - began
    began = time.perf_counter()
    miner.run(asked[:PROMPTS])
    fast = time.perf_counter() - began
    for key, (labels, answer) in expected.items():
        own = [(one.position, one.target_token, one.draft_token, one.important) for one in done[key].decided]
        assert (own, done[key].answer) == (labels, answer)
    by_prompt = (slow / len(expected)) / (fast / PROMPTS)
    swaps = sum(len(labels) for labels, _ in expected.values()), sum(len(one.decided) for one in done.values())
    by_swap = (slow / swaps[0]) / (fast / swaps[1])
    print(
        f"by hand {60 * len(expected) / slow:.1f} prompts and {60 * swaps[0] / slow:.1f} swaps a minute, "
        f"in rows {60 * PROMPTS / fast:.1f} and {60 * swaps[1] / fast:.1f}: {by_prompt:.1f} and {by_swap:.1f} times"
    )
    assert min(by_prompt, by_swap) > 5
