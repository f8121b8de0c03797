"""From the passes of a bench to what is published: ratios within a repeat, and their median over repeats."""

import statistics
from typing import Any

from toolkit.evaluation.bench_state import Pass, State

BATCH = 8
RATIOS = {  # name -> (contestant, the one it is compared with)
    "ar_vs_generate": ("ar", "generate"),
    "ngram_vs_ar": ("ngram", "ar"),
    "ngram_vs_prompt_lookup": ("ngram", "prompt_lookup"),
    "draft_vs_assisted": ("draft", "assisted"),
    "draft_vs_ar": ("draft", "ar"),
    f"batch{BATCH}_over_1": (f"ar_batch{BATCH}", "ar"),
    f"ngram_batch{BATCH}_vs_ar_batch{BATCH}": (f"ngram_batch{BATCH}", f"ar_batch{BATCH}"),
}


def figures(state: State) -> dict[str, Any]:
    """All that was measured, by mode (greedy, sampled) and contestant."""
    passes = {mode: [repeat[mode] for repeat in state.repeats] for mode in state.repeats[0]}
    ratios = {mode: _ratios(repeats) for mode, repeats in passes.items()}
    first = passes["greedy"][0]
    return {
        "ratios": {name: spread["median"] for name, spread in ratios["greedy"].items()}
        | {"verify5_over_1": state.curve["ours"][5] / state.curve["ours"][1]},
        "spread": ratios,
        "tokens_per_second": {
            mode: {name: _spread([one[name].rate for one in repeats]) for name in repeats[0]}
            for mode, repeats in passes.items()
        },
        "tokens": {name: one.tokens for name, one in first.items()},
        "texts_equal_to_ours_ar": {name: _equal(one.texts, first["ar"].texts) for name, one in first.items()},
        "cost_ms": state.curve,
        "tuned": {name: vars(choice) for name, choice in state.tuned.items()},
    }


def show(result: dict[str, Any]) -> None:
    """Print the greedy ratios, with their range over repeats."""
    for name, value in result["ratios"].items():
        spread = result["spread"]["greedy"].get(name)
        around = f"  ({spread['min']:.2f} to {spread['max']:.2f})" if spread else ""
        print(f"{name:28s} {value:5.2f}{around}")


def _ratios(repeats: list[dict[str, Pass]]) -> dict[str, dict[str, float]]:
    """Of the pairs that were both in this mode; a method that the recipe adds is compared with plain decoding."""
    known = {name for pair in RATIOS.values() for name in pair}
    added = {f"{name}_vs_ar": (name, "ar") for name in repeats[0] if name not in known}
    return {
        name: _spread([one[a].rate / one[b].rate for one in repeats])
        for name, (a, b) in (RATIOS | added).items()
        if a in repeats[0] and b in repeats[0]
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def _equal(texts: list[list[int]], baseline: list[list[int]]) -> float:
    """Share of greedy texts that equal ours token for token (both stop at EOS; near-ties can differ)."""
    return sum(a == b for a, b in zip(texts, baseline, strict=True)) / len(texts)
