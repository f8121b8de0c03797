"""What our loop and vLLM write, side by side: greedy, in float32.

The two engines add in different orders, so a token may differ where our loop's two best logits were nearly a tie; such
prompts are counted, and any other difference fails.
"""

from pathlib import Path

import torch

from toolkit import chat, methods
from toolkit.backends import vllm
from toolkit.engine.types import Request
from toolkit.errors import UserError
from toolkit.evaluation.equality import first_difference, near_tie
from toolkit.hub import ModelConfig

BASE = ModelConfig("smollm2-135m", dtype="float32", device="cpu")
CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"


def missing():
    """Why there is no vLLM, or nothing."""
    try:
        vllm.python_path()
    except UserError as error:
        return str(error)
    return ""


def decode(models, task, sampling):
    """-> token ids of the task's prompts, and what plain autoregression makes of them."""
    prompts = [chat.encode(task.messages(one), models.target.tokenizer) for one in task.problems()]
    decoder = methods.decoder(methods.resolve("baseline", "test"), models, record_gaps=True)
    return prompts, decoder.generate([Request(i, tokens) for i, tokens in enumerate(prompts)], sampling)


def check(result, ours, record_property):
    """The same tokens, near-ties apart; at least half of the prompts to the last token."""
    ties = 0
    for tokens, generation in zip(result.tokens, ours, strict=True):
        at = first_difference(tokens, generation.tokens)
        if at is not None:
            assert at < min(len(tokens), len(generation.tokens)), (generation.id, "one ended before the other")
            assert generation.gaps[at] < near_tie(torch.float32), (generation.id, at, generation.gaps[at])
            ties += 1
    print(f"{len(ours)} prompts, {ties} parted at a near-tie")
    record_property("near_ties", ties)
    assert ties <= len(ours) // 2


def check_counters(counters, drafted):
    """Named and shaped as vLLM's documentation has them, and consistent with one another."""
    values = {name.removeprefix("vllm:spec_decode_num_"): value for name, value in counters.items()}
    assert values.keys() == {"drafts", "draft_tokens", "accepted_tokens", "accepted_tokens_per_pos"}
    by_position = values["accepted_tokens_per_pos"]
    assert len(by_position) == drafted
    assert by_position == sorted(by_position, reverse=True), "position i is accepted only after i - 1"
    assert sum(by_position) == values["accepted_tokens"]
    assert 0 < values["drafts"] <= values["draft_tokens"] <= drafted * values["drafts"]
    assert by_position[0] <= values["drafts"]


def acceptance_length(counters):
    """vLLM's own counting: 1 + accepted / drafts."""
    drafts, accepted = (counters[f"vllm:spec_decode_num_{name}"] for name in ("drafts", "accepted_tokens"))
    return 1 + accepted / drafts
