"""What a round costs by its window: decoded for this alone, at one temperature and the batch that a policy is for.

Windows of every length take turns on every prompt, so that a machine that slows down slows all of them down.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from toolkit import config, sources
from toolkit.acceptance.rejection import Rejection
from toolkit.engine.loop import SpecDecoder
from toolkit.engine.types import Batch, Draft, Proposer, Request, Sampling, TargetView, Verdict, Wants
from toolkit.evaluation import system
from toolkit.evaluation.progress import Bar
from toolkit.hub import Models
from toolkit.lengths.fixed import Fixed
from toolkit.training.answers import Asked
from toolkit.training.traces import Costs

_WARM_UP = 8  # tokens


@dataclass
class CostsConfig:
    """How costs are measured."""

    prompts: int = 4  # 0: not measured
    max_new_tokens: int = 48
    batch: int = 1


def rules(settings: CostsConfig, window: int) -> list[config.Rule]:
    least = max(8, window + 1)  # a window is never drafted past the last token
    return [
        ("trace.costs.prompts", settings.prompts, settings.prompts >= 0, "0 (not measured) or more"),
        (
            "trace.costs.max_new_tokens",
            settings.max_new_tokens,
            settings.prompts == 0 or settings.max_new_tokens >= least,
            f"{least} or more: 8, and one more than trace.window",
        ),
        ("trace.costs.batch", settings.batch, settings.batch >= 1, "1 or more"),
    ]


class Stopwatch:
    """A trace sink that notes how long rounds with windows of exactly k took, and nothing else."""

    wants = Wants()

    def __init__(self) -> None:
        self.drafting: dict[int, list[float]] = defaultdict(list)  # k -> milliseconds a round
        self.verifying: dict[int, list[float]] = defaultdict(list)

    def round(
        self, batch: Batch, draft: Draft, verdict: Verdict, target: TargetView, drafting: float, verifying: float
    ) -> None:
        k = draft.tokens.shape[1]
        self.drafting[k].append(1e3 * drafting)
        self.verifying[k].append(1e3 * verifying)


def measure(
    models: Models,
    proposer: Proposer,
    limit: int,
    asked: Sequence[Asked],
    temperature: float,
    settings: CostsConfig,
) -> Costs:
    """Milliseconds of rounds with windows of 0..limit at this temperature and the batch of the settings."""
    watch = Stopwatch()
    decoders = [SpecDecoder(models.target, proposer, Fixed(k), Rejection(), trace=watch) for k in range(limit + 1)]
    sampling = Sampling(temperature, max_new_tokens=settings.max_new_tokens)
    chosen = asked[: settings.prompts]
    batches = [chosen[at : at + settings.batch] for at in range(0, len(chosen), settings.batch)]
    host: list[float] = []
    warm_up = dataclasses.replace(sampling, max_new_tokens=_WARM_UP)
    for decoder in decoders:
        decoder.generate(_requests(batches[0]), warm_up)
    watch.drafting.clear()
    watch.verifying.clear()
    with Bar(f"costs, temperature {temperature:g}", len(batches) * len(decoders)) as bar:
        for number, batch in enumerate(batches):
            for turn in range(len(decoders)):
                k = (number + turn) % len(decoders)
                done = decoders[k].generate(_requests(batch), sampling)
                longest = max(done, key=lambda one: len(one.windows))
                host.append(1e3 * longest.times.host / len(longest.windows))
                bar.advance(1, f"window {k}")
    costs = Costs(
        draft_ms=[_median(watch.drafting[k]) for k in range(limit + 1)],
        verify_ms=[_median(watch.verifying[k]) for k in range(limit + 1)],
        host_ms=_median(host),
        rounds=[len(watch.drafting[k]) for k in range(limit + 1)],
        batch=settings.batch,
        threads=torch.get_num_threads(),
        hardware=system.metadata(),
    )
    step = (costs.draft_ms[limit] - costs.draft_ms[1]) / (limit - 1)
    sources.say(
        f"at temperature {temperature:g}, a draft step takes {step:.1f} ms; a target forward "
        f"{costs.verify_ms[0]:.1f} ms alone, {costs.verify_ms[limit]:.1f} ms with a window of {limit}"
    )
    return costs


def _requests(batch: Sequence[Asked]) -> list[Request]:
    return [Request(one.number, one.tokens) for one in batch]


def _median(values: Sequence[float]) -> float:
    return round(float(np.median(values)), 4)
