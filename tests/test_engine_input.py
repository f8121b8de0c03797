"""What the engine refuses, and what it must not do quietly: slow catching-up, a draft out of its depth."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from toolkit import methods
from toolkit.engine.attention import attend
from toolkit.engine.runner import Output, Runner
from toolkit.engine.types import Request, Sampling
from toolkit.errors import UserError
from toolkit.hub import DraftFrom, ModelConfig, Models
from toolkit.lengths.entropy import Entropy

REQUEST = Request(0, (65, 66, 67))


@pytest.fixture(scope="module")
def models() -> Models:
    return Models(ModelConfig("tiny-random:llama"))


@pytest.mark.parametrize(
    ("field", "value"),
    [("temperature", -1.0), ("top_p", 0.0), ("top_p", 1.5), ("top_k", -1), ("max_new_tokens", 0), ("stop", ("",))],
)
def test_sampling_out_of_range(models: Models, field: str, value: object) -> None:
    decoder = methods.decoder(methods.resolve("baseline", "test"), models)
    with pytest.raises(UserError, match=f"sampling.{field}"):
        decoder.generate([REQUEST], dataclasses.replace(Sampling(), **{field: value}))


def test_a_prompt_that_does_not_fit(models: Models) -> None:
    decoder = methods.decoder(methods.resolve("baseline", "test"), models)
    with pytest.raises(UserError, match="positions"):
        decoder.generate([REQUEST], Sampling(max_new_tokens=models.target.max_length))
    with pytest.raises(UserError, match="empty"):
        decoder.generate([Request(0, ())], Sampling())


def test_a_draft_with_a_short_context_is_refused(models: Models) -> None:
    decoder = methods.decoder(methods.resolve("speculative", "test"), models)
    decoder.proposer.runner.max_length = 20
    with pytest.raises(UserError, match="20 positions"):
        decoder.generate([REQUEST], Sampling(max_new_tokens=18))
    assert len(decoder.generate([REQUEST], Sampling(max_new_tokens=17))[0].tokens) == 17


def test_attention_that_is_not_computed_is_refused() -> None:
    with pytest.raises(UserError, match="s_aux"):
        attend(torch.nn.Linear(1, 1), *[torch.zeros(1, 1, 1, 4)] * 3, None, slots=None, s_aux=torch.zeros(1))


def test_empty_windows_do_not_make_the_draft_fall_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy that never drafts costs one draft token a round, not one more each round."""
    models = Models(ModelConfig("tiny-random:llama"))
    decoder = methods.decoder(methods.resolve("entropy_stop", "test"), models)
    decoder.length = Entropy(threshold=0.0, limit=4)  # every law is less sure than that
    draft, widths, real = decoder.proposer.runner, [], Runner.forward

    def spied(runner: Runner, cache: object, tokens: Tensor, start: np.ndarray, **options: object) -> Output:
        if runner is draft and options.get("logits") == "last":
            widths.append(tokens.shape[1])
        return real(runner, cache, tokens, start, **options)

    monkeypatch.setattr(Runner, "forward", spied)
    decoder.generate([REQUEST], Sampling(max_new_tokens=12))
    assert widths == [1] * 11  # the last round has no room for a draft


def test_a_self_draft_may_be_pruned_to_all_layers() -> None:
    """draft_from with every layer is the target: all windows are accepted."""
    models = Models(ModelConfig("tiny-random:llama"))
    method = {
        "name": "whole",
        "proposer": {
            "type": "draft_model",
            "model": {"name": "target", "draft_from": dataclasses.asdict(DraftFrom([0, 1]))},
        },
        "length": {"type": "fixed", "k": 4},
    }
    [generation] = methods.decoder(methods.resolve(method, "test"), models).generate(
        [REQUEST], Sampling(max_new_tokens=20)
    )
    assert set(generation.windows[:-1]) == {(4, 4)}
