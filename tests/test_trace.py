"""The trace holds what the generations say was proposed and accepted, and a rule may emit nothing of its own."""

import math

import pytest
import torch

from toolkit import methods
from toolkit.acceptance.rejection import Rejection
from toolkit.engine.loop import SpecDecoder
from toolkit.engine.statistics import LENIENCE
from toolkit.engine.trace import Recorder, places_schema, rounds_schema
from toolkit.engine.types import Batch, Draft, Request, Sampling, TargetView, Verdict
from toolkit.errors import UserError
from toolkit.hub import ModelConfig, Models
from toolkit.lengths.fixed import Fixed
from toolkit.proposers.draft_model import DraftModel

REQUESTS = [Request(7, (65, 66, 67)), Request(3, (70, 71))]


def test_trace_agrees_with_the_generations() -> None:
    models = Models(ModelConfig("tiny-random:llama"))
    recorder = Recorder(keep_draft=True, target_layer=models.target.n_layers)
    decoder = methods.decoder(methods.resolve("speculative", "test"), models, trace=recorder)
    generations = decoder.generate(REQUESTS, Sampling(1.0, max_new_tokens=20))
    rounds, places = recorder.tables()
    width = models.target.model.config.hidden_size
    assert rounds.schema.equals(rounds_schema(LENIENCE), check_metadata=True)
    assert places.schema.equals(places_schema(LENIENCE, {"draft": width, "target": width}), check_metadata=True)
    rows, turns = places.to_pylist(), rounds.to_pylist()
    for generation in generations:
        own = [row for row in turns if row["request"] == generation.id]
        assert [row["window"] for row in own] == list(range(len(generation.windows)))
        for row, (proposed, accepted) in zip(
            own[:-1], generation.windows, strict=False
        ):  # the last may be cut by the end
            assert (row["drafted"], row["accepted"]) == (proposed, accepted)
        drafted = [row for row in rows if row["request"] == generation.id]
        assert len(drafted) == sum(row["drafted"] for row in own) > 0
        assert sum(row["accepted"] for row in drafted) == sum(row["accepted"] for row in own)
        assert all(row["draft_ms"] > 0 and row["verify_ms"] > 0 for row in own)
    assert recorder.tables()[1].num_rows == 0  # forgotten


def test_the_loop_decided_by_what_the_trace_says() -> None:
    """Accepted where the coin lies below exp(log_ratio): checked by the share, and at temperature 0 one by one."""
    models = Models(ModelConfig("tiny-random:llama"))
    recorder = Recorder()
    method = methods.resolve({"name": "x", "base": "speculative", "length": {"type": "fixed", "k": 3}}, "test")
    decoder = methods.decoder(method, models, trace=recorder)
    decoder.generate([Request(i, (60 + i, 70)) for i in range(64)], Sampling(1.0, max_new_tokens=24))
    first = [row for row in recorder.tables()[1].to_pylist() if row["depth"] == 0]
    chance = [min(1.0, math.exp(row["log_ratio"])) for row in first]
    spread = math.sqrt(sum(c * (1 - c) for c in chance))
    assert abs(sum(row["accepted"] for row in first) - sum(chance)) < 4 * spread + 1e-3
    analytic = [row["accept_T"][0] for row in first]
    noise = math.sqrt(sum((a - c) ** 2 for a, c in zip(analytic, chance, strict=True)))
    assert abs(sum(analytic) - sum(chance)) < 4 * noise  # the same in the mean over what may be drafted
    assert all(row["log_s"] == 0.0 for row in first)
    decoder.generate(REQUESTS, Sampling(max_new_tokens=24))
    stands = True
    for row in recorder.tables()[1].to_pylist():
        stands = (row["depth"] == 0 or stands) and row["log_ratio"] >= 0.0
        assert row["accepted"] == stands == (stands and row["accept_T"][0] == 1.0)


def test_states_are_those_that_the_tokens_were_drawn_from() -> None:
    """The draft's head over the kept state gives the recorded log q; the target's, over its own, log p."""
    models = Models(ModelConfig("tiny-random:llama"))
    recorder = Recorder(keep_draft=True, target_layer=models.target.n_layers)
    decoder = SpecDecoder(models.target, DraftModel(models.target), Fixed(3), Rejection(), trace=recorder)
    decoder.generate(REQUESTS, Sampling(1.0, max_new_tokens=16))
    head = models.target.model.get_output_embeddings()
    for row in recorder.tables()[1].to_pylist():
        for name in ("p", "q"):
            state = torch.tensor(row["draft_hidden" if name == "q" else "target_hidden"], dtype=torch.float32)
            logits = head(state)[: models.target.vocab]
            assert logits.log_softmax(-1)[row["token"]].item() == pytest.approx(row[f"log_{name}"], abs=0.05)


def test_lookup_has_no_laws_to_trace() -> None:
    models = Models(ModelConfig("tiny-random:llama"))
    decoder = methods.decoder(methods.resolve("ngram", "test"), models, trace=Recorder())
    with pytest.raises(UserError, match="draft logits"):
        decoder.generate([Request(0, (65, 66, 65, 66, 65, 66))], Sampling(max_new_tokens=8))


class Everything(Rejection):
    """Accepts all candidates and adds no token of its own."""

    def verify(self, batch: Batch, draft: Draft, target: TargetView) -> Verdict:
        accepted = draft.valid.sum(1)
        following = torch.where(accepted > 0, -1, target.logits[:, 0].argmax(-1))
        return Verdict(accepted, following)


def test_a_round_may_end_without_a_token_of_the_targets() -> None:
    """The target as its own draft, everything accepted and nothing added: the text is autoregression's."""
    models = Models(ModelConfig("tiny-random:llama"))
    sampling = Sampling(max_new_tokens=21)
    plain = methods.decoder(methods.resolve("baseline", "test"), models).generate(REQUESTS, sampling)
    drafted = SpecDecoder(models.target, DraftModel(models.target), Fixed(4), Everything()).generate(REQUESTS, sampling)
    assert [g.tokens for g in drafted] == [g.tokens for g in plain]
    assert all(window == (4, 4) for window in drafted[0].windows[:-1])
