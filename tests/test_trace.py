"""The trace holds what the generations say was proposed and accepted, and a rule may emit nothing of its own."""

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import torch

from toolkit import methods
from toolkit.acceptance.rejection import Rejection
from toolkit.engine.loop import SpecDecoder
from toolkit.engine.trace import SCHEMA, Recorder
from toolkit.engine.types import Batch, Draft, Request, Sampling, TargetView, Verdict
from toolkit.hub import ModelConfig, Models
from toolkit.lengths.fixed import Fixed
from toolkit.proposers.draft_model import DraftModel

REQUESTS = [Request(7, (65, 66, 67)), Request(3, (70, 71))]


def test_trace_agrees_with_the_generations(tmp_path: Path) -> None:
    models = Models(ModelConfig("tiny-random:llama"))
    recorder = Recorder()
    decoder = methods.decoder(methods.resolve("speculative", "test"), models, trace=recorder)
    generations = decoder.generate(REQUESTS, Sampling(1.0, max_new_tokens=20))
    recorder.write(tmp_path / "trace.parquet")
    table = pq.read_table(tmp_path / "trace.parquet")
    assert table.schema.equals(SCHEMA, check_metadata=True)
    rows = table.to_pylist()
    proposed, accepted = Counter(r["request"] for r in rows), Counter(r["request"] for r in rows if r["accepted"])
    for generation in generations:
        assert proposed[generation.id] == sum(window[0] for window in generation.windows) > 0
        assert accepted[generation.id] >= sum(window[1] for window in generation.windows)
    assert [path.name for path in tmp_path.iterdir()] == ["trace.parquet"]  # nothing half-written beside it


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
