"""The bench on a tiny model: every ratio it promises, the right pairs, and going on after an interruption."""

import json
from pathlib import Path

import pytest

from toolkit import methods
from toolkit.engine.types import Request, Sampling
from toolkit.evaluation import bench, bench_result, tune
from toolkit.hub import DraftFrom, ModelConfig, Models

PROMISED = {
    "ar_vs_generate", "ngram_vs_ar", "ngram_vs_prompt_lookup", "draft_vs_assisted", "verify5_over_1", "batch8_over_1"
}  # fmt: skip


def _recipe(out: Path) -> bench.BenchRecipe:
    return bench.BenchRecipe(
        target=ModelConfig("tiny-random:llama"),
        task={"type": "gsm_symbolic", "limit": 10},
        draft=ModelConfig("target", draft_from=DraftFrom([0])),
        methods=["entropy_stop"],
        prompts=8,
        tuning=2,
        max_new_tokens=12,
        repeats=2,
        sampled_prompts=1,
        context=20,
        curve_rounds=1,
        out=str(out),
    )


def test_ratios_are_rates_of_the_right_pairs(tmp_path: Path) -> None:
    result = bench.run(_recipe(tmp_path / "bench.json"))
    assert json.loads((tmp_path / "bench.json").read_text())["ratios"].keys() >= PROMISED
    for name, (a, b) in bench_result.RATIOS.items():
        rates = result["tokens_per_second"]["greedy"]
        spread = result["spread"]["greedy"][name]
        assert spread["min"] <= result["ratios"][name] <= spread["max"]
        assert rates[a]["min"] / rates[b]["max"] <= spread["max"] and spread["min"] <= rates[a]["max"] / rates[b]["min"]
    # The same greedy texts on every side: a faster side that stops earlier would not be faster.
    assert set(result["texts_equal_to_ours_ar"].values()) == {1.0}
    assert "entropy_stop_vs_ar" in result["ratios"]
    assert not (tmp_path / "bench.partial.json").exists()


def test_goes_on_behind_the_last_whole_repeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, seeds = bench._pass, []

    def interrupted(contestants, prompts, sampling, bar):
        seeds.append(sampling.seed)
        if len(seeds) == 3:
            raise KeyboardInterrupt
        return real(contestants, prompts, sampling, bar)

    monkeypatch.setattr(bench, "_pass", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bench.run(_recipe(tmp_path / "bench.json"))
    bench.run(_recipe(tmp_path / "bench.json"))
    assert seeds == [0, 0, 1, 1, 1]  # greedy and sampled of repeat 0; repeat 1 broken off; repeat 1


def test_simulated_windows_are_those_of_the_decoder() -> None:
    models = Models(ModelConfig("tiny-random:gemma2"))
    sampling = Sampling(max_new_tokens=40)
    request = Request(0, tuple(models.target.tokenizer.encode("a")))
    baseline = methods.decoder(methods.resolve("baseline", "test"), models).generate([request], sampling)[0]
    method = {
        "name": "n",
        "proposer": {"type": "ngram", "min": 1, "max": tune.LONGEST},
        "length": {"type": "fixed", "k": 3},
    }
    looked_up = methods.decoder(methods.resolve(method, "test"), models).generate([request], sampling)[0]
    assert looked_up.tokens == baseline.tokens
    assert tune.windows(request.prompt, baseline.tokens, 3, 1) == looked_up.windows
    assert sum(accepted for _, accepted in looked_up.windows) > 0  # some were accepted, and many were not


def test_a_dear_window_is_not_chosen() -> None:
    text = ([1, 2, 3, 1, 2, 3], [1, 2, 3, 1, 2, 3, 1, 2, 3])
    assert tune.best_ngram([[text]], {1: 10.0, 16: 10.5}).k >= 8
    assert tune.best_ngram([[text]], {1: 10.0, 2: 11.0, 3: 100.0, 16: 1000.0}).k == 1
