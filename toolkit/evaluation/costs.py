"""The cost curve: milliseconds of one forward by the number of tokens it reads.

Speculation pays where reading 1+k tokens costs little more than reading one, so this curve and the acceptance
decide every speedup. Widths are timed in turn, round after round, because the machine's speed drifts.
"""

import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from transformers import DynamicCache, PreTrainedModel

from toolkit.engine.runner import Runner

Forward = Callable[[], object]


def curves(
    contestants: dict[str, dict[int, Forward]], rounds: int, device: torch.device
) -> dict[str, dict[int, float]]:
    """Contestant -> width -> a forward; -> the same with median milliseconds, all timed in turn."""
    seconds: dict[tuple[str, int], list[float]] = {
        (name, w): [] for name, by_width in contestants.items() for w in by_width
    }
    for turn in range(rounds + 2):  # two to warm up
        for name, by_width in contestants.items():
            for width, forward in by_width.items():
                spent = _timed(forward, device)
                if turn >= 2:
                    seconds[name, width].append(spent)
    return {
        name: {width: 1000 * statistics.median(seconds[name, width]) for width in by_width}
        for name, by_width in contestants.items()
    }


def ours(runner: Runner, widths: Sequence[int], context: int, batch: int = 1) -> dict[int, Forward]:
    """A forward of each width behind `context` cached tokens, in `batch` rows."""
    cache = runner.cache(batch, context + max(widths))
    start = np.full(batch, context)
    runner.forward(
        cache, _tokens(runner.vocab, batch, context, runner.device), np.zeros(batch, np.int64), logits="none"
    )
    windows = {width: _tokens(runner.vocab, batch, width, runner.device) for width in widths}
    return {width: lambda tokens=tokens: runner.forward(cache, tokens, start) for width, tokens in windows.items()}


def transformers(model: PreTrainedModel, widths: Sequence[int], context: int) -> dict[int, Forward]:
    """The same through transformers: a DynamicCache that is cropped after each forward."""
    vocab = model.config.get_text_config().vocab_size
    cache = DynamicCache(config=model.config)
    with torch.inference_mode():
        model(_tokens(vocab, 1, context, model.device), past_key_values=cache)

    def forward(tokens: torch.Tensor) -> None:
        with torch.inference_mode():
            model(tokens, past_key_values=cache)
            cache.crop(-tokens.shape[1])

    windows = {width: _tokens(vocab, 1, width, model.device) for width in widths}
    return {width: lambda tokens=tokens: forward(tokens) for width, tokens in windows.items()}


def _tokens(vocab: int, rows: int, width: int, device: torch.device) -> torch.Tensor:
    generator = torch.Generator().manual_seed(width)
    return torch.randint(vocab, (rows, width), generator=generator).to(device)


def _timed(forward: Forward, device: torch.device) -> float:
    began = time.perf_counter()
    forward()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
