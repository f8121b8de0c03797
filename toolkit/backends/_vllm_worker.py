"""Run by the other environment's Python: reads request.json in a directory, decodes with vLLM, writes result.json.

It shares no module with the toolkit, which is not installed there: the two JSON files are all they say to each other.
Loading is not in the seconds; the one prompt that warms the engine up before the clock starts is in no counter.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
import vllm
from vllm.v1.metrics.reader import Counter, Metric, Vector

SPECULATIVE = "vllm:spec_decode"


def main(directory: Path) -> None:
    """One request, one result; what goes wrong is a traceback in the log and no result."""
    request = json.loads((directory / "request.json").read_text())
    llm = vllm.LLM(
        **request["engine"],
        enforce_eager=not torch.cuda.is_available(),  # on a CPU compiling takes longer than a short run
        disable_log_stats=False,  # without them there are no counters
    )
    prompts: list[Any] = [{"prompt_token_ids": tokens} for tokens in request["prompts"]]
    parameters = [vllm.SamplingParams(**each) for each in request["sampling"]]
    llm.generate(prompts[:1], vllm.SamplingParams(max_tokens=2, temperature=0.0), use_tqdm=False)
    before = counters(llm.get_metrics())
    start = time.perf_counter()
    outputs = llm.generate(prompts, parameters, use_tqdm=False)
    seconds = time.perf_counter() - start
    result = {
        "tokens": [list(output.outputs[0].token_ids) for output in outputs],
        "counters": difference(counters(llm.get_metrics()), before),
        "seconds": seconds,
        "version": vllm.__version__,
    }
    partial = directory / "result.json.partial"
    partial.write_text(json.dumps(result))
    partial.rename(directory / "result.json")


def counters(metrics: list[Metric]) -> dict[str, list[int]]:
    """The speculative counters by name, as lists: a number for each position, or just one. Engines are added up."""
    totals: dict[str, list[int]] = {}
    for metric in metrics:
        if metric.name.startswith(SPECULATIVE) and isinstance(metric, Counter | Vector):
            values = metric.values if isinstance(metric, Vector) else [metric.value]
            totals[metric.name] = [
                a + b for a, b in zip(totals.get(metric.name, [0] * len(values)), values, strict=True)
            ]
    return totals


def difference(after: dict[str, list[int]], before: dict[str, list[int]]) -> dict[str, int | list[int]]:
    """What was counted in between; a counter of one number as that number."""
    counted: dict[str, int | list[int]] = {}
    for name, values in after.items():
        earlier = before.get(name, [0] * len(values))
        each = [b - a for a, b in zip(earlier, values, strict=True)]
        counted[name] = each if name.endswith("_per_pos") else each[0]
    return counted


if __name__ == "__main__":
    main(Path(sys.argv[1]))
