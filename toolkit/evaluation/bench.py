"""Speed side by side with transformers, in one process, on the same prompts, taking turns prompt by prompt.

Contestants decode each prompt one after another, and that is repeated; a ratio is taken within a repeat, where
the machine's drift hits both sides alike, and its median over repeats is reported. A bench that is stopped goes on
behind the last whole repeat. Time is wall-clock for the whole call, prefill included, on both sides.
"""

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from toolkit import config, methods
from toolkit.engine.loop import SpecDecoder
from toolkit.engine.types import Request, Sampling
from toolkit.errors import UserError
from toolkit.evaluation import costs, system, tune
from toolkit.evaluation.bench_result import BATCH, RATIOS, figures, show
from toolkit.evaluation.bench_state import Pass, State, identity, load, save
from toolkit.evaluation.peers import Transformers
from toolkit.evaluation.progress import Bar
from toolkit.evaluation.prompts import Prompt, prepare
from toolkit.files import write_json
from toolkit.hub import ModelConfig, Models
from toolkit.methods import MethodConfig

RECIPE = "recipes/eval/bench.yaml"
WIDTHS = (1, 2, 3, 4, 5, 6, 8, 12, 16)
BATCH_WIDTHS = (1, 2, 3, 4, 5, 7, 9, 13)


@dataclass
class BenchRecipe:
    target: ModelConfig
    task: Any  # a piece; its first `prompts` problems are timed, the next `tuning` choose the n-gram windows
    draft: ModelConfig  # ours and transformers' assistant
    prompts: int = 16
    tuning: int = 8
    max_new_tokens: int = 96
    repeats: int = 5
    window: int = 2  # tokens the draft model proposes a round at most, both sides
    methods: list[Any] = field(default_factory=list)  # further methods of ours, each compared with plain decoding
    sampled_prompts: int = 2  # of the prompts, at temperature 1
    context: int = 200  # cached tokens behind which the cost curve is taken
    curve_rounds: int = 15
    threads: int | None = None
    out: str = "results/bench.json"


Decode = Callable[[list[Prompt], Sampling], list[list[int]]]  # -> new token ids of each prompt


@dataclass
class Contestant:
    decode: Decode
    batch: int = 1
    greedy_only: bool = False


def main(argv: list[str]) -> int:
    """`python -m eval.bench [RECIPE] [key=value ...]`"""
    parser = argparse.ArgumentParser(prog="bench", description="Speed beside transformers; a stopped bench goes on.")
    parser.add_argument("words", nargs="*", metavar="RECIPE | key=value", help=f"default: {RECIPE}; as repeats=7")
    words = parser.parse_args(argv).words
    named = [word for word in words if "=" not in word] or [RECIPE]
    recipe = config.load(BenchRecipe, named[0], [word for word in words if "=" in word])
    _check(recipe, named[0])
    run(recipe)
    return 0


def _check(recipe: BenchRecipe, where: str) -> None:
    whole = recipe.prompts % BATCH == 0  # or the wide contestants would decode fewer prompts than the others
    rules = [
        ("prompts", recipe.prompts, recipe.prompts >= BATCH and whole, f"a multiple of {BATCH}"),
        ("sampled_prompts", recipe.sampled_prompts, 1 <= recipe.sampled_prompts <= recipe.prompts, "1 to prompts"),
        ("tuning", recipe.tuning, recipe.tuning >= 1, "1 or more"),
        ("repeats", recipe.repeats, recipe.repeats >= 1, "1 or more"),
        ("window", recipe.window, recipe.window >= 1, "1 or more"),
        ("curve_rounds", recipe.curve_rounds, recipe.curve_rounds >= 1, "1 or more"),
    ]
    config.require(where, rules)


def run(recipe: BenchRecipe) -> dict[str, Any]:
    """Time everything, write `recipe.out`, print the ratios -> what was written."""
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    models = Models(recipe.target)
    module, options = config.piece("tasks", recipe.task, "task")
    everything = prepare(module.build(options), models.target.tokenizer, chat_template=True)
    if len(everything) < recipe.prompts + recipe.tuning:
        raise UserError(
            f"task {recipe.task} has {len(everything)} problems; prompts={recipe.prompts} and tuning={recipe.tuning} "
            "need their sum (raise the task's limit)"
        )
    timed, others = everything[: recipe.prompts], everything[recipe.prompts : recipe.prompts + recipe.tuning]
    peer = Transformers.load(recipe.target, recipe.draft, recipe.window)
    Path(recipe.out).parent.mkdir(parents=True, exist_ok=True)
    partial = Path(recipe.out).with_suffix(".partial.json")
    drafters = _drafters(recipe, models)  # loaded first: weights that change make another bench
    whose = identity(recipe, system.metadata(), models.provenance)
    state = load(partial, whose)
    if state is None:
        curve = _curves(recipe, models, peer)
        state = State(curve, _tune(recipe, models, others, curve))
    peer.lookup = state.tuned["prompt_lookup"].k
    contestants = _contestants(models, peer, drafters, state.tuned)
    modes = {
        "greedy": (timed, Sampling(max_new_tokens=recipe.max_new_tokens)),
        "sampled": (timed[: recipe.sampled_prompts], Sampling(1.0, max_new_tokens=recipe.max_new_tokens)),
    }
    for repeat in range(len(state.repeats), recipe.repeats):
        passes = {}
        for mode, (prompts, sampling) in modes.items():
            with Bar(f"bench {mode}, repeat {repeat + 1}/{recipe.repeats}", len(prompts)) as bar:
                passes[mode] = _pass(contestants, prompts, dataclasses.replace(sampling, seed=repeat), bar)
        state.repeats.append(passes)
        save(partial, whose, state)
    settings = {"prompt_lookup_num_tokens": peer.lookup, "num_assistant_tokens": recipe.window}
    result = {
        **whose,
        "repeats": len(state.repeats),
        **figures(state),
        "peer_settings": {**settings, "everything_else": "defaults of transformers"},
    }
    write_json(Path(recipe.out), result)
    partial.unlink()
    show(result)
    print(f"written: {recipe.out}")
    return result


def _curves(recipe: BenchRecipe, models: Models, peer: Transformers) -> dict[str, dict[int, float]]:
    print("bench: cost curves", file=sys.stderr)
    return costs.curves(
        {
            "ours": costs.ours(models.target, WIDTHS, recipe.context),
            "transformers": costs.transformers(peer.target, WIDTHS, recipe.context),
            f"ours_batch{BATCH}": costs.ours(models.target, BATCH_WIDTHS, recipe.context, BATCH),
        },
        recipe.curve_rounds,
        models.target.device,
    )


def _tune(
    recipe: BenchRecipe, models: Models, prompts: list[Prompt], curve: dict[str, dict[int, float]]
) -> dict[str, tune.Choice]:
    """N-gram windows for batch 1 and for the wide batch, chosen on prompts that are not timed."""
    print(f"bench: choosing n-gram windows on {len(prompts)} other prompts", file=sys.stderr)
    baseline = methods.decoder(methods.resolve("baseline", RECIPE), models)
    sampling = Sampling(max_new_tokens=recipe.max_new_tokens)
    answers = baseline.generate([Request(p.request_id, p.tokens) for p in prompts], sampling)
    texts = [(prompt.tokens, answer.tokens) for prompt, answer in zip(prompts, answers, strict=True)]
    return {
        "ngram": tune.best_ngram([[text] for text in texts], curve["ours"]),
        "prompt_lookup": tune.best_ngram([[text] for text in texts], curve["transformers"], shortest=(1,)),
        f"ngram_batch{BATCH}": tune.best_ngram([texts], curve[f"ours_batch{BATCH}"]),
    }


def _drafters(recipe: BenchRecipe, models: Models) -> dict[str, SpecDecoder]:
    """The recipe's draft as `draft`, and its further methods by name."""
    model = {key: value for key, value in dataclasses.asdict(recipe.draft).items() if value is not None}
    draft = {
        "name": "draft",
        "proposer": {"type": "draft_model", "model": model},
        "length": {"type": "fixed", "k": recipe.window},
    }
    chosen = [methods.resolve(one, RECIPE) for one in (draft, *recipe.methods)]
    if twice := sorted({method.name for method in chosen[1:]} & {name for pair in RATIOS.values() for name in pair}):
        raise UserError(f"key 'methods': the bench has a '{twice[0]}' of its own; give the method another name.")
    return {method.name: methods.decoder(method, models) for method in chosen}


def _contestants(
    models: Models, peer: Transformers, drafters: dict[str, SpecDecoder], tuned: dict[str, tune.Choice]
) -> dict[str, Contestant]:
    def own(decoder: SpecDecoder) -> Decode:
        return lambda prompts, sampling: [
            generation.tokens
            for generation in decoder.generate([Request(p.request_id, p.tokens) for p in prompts], sampling)
        ]

    def theirs(generate: Callable[[tuple[int, ...], Sampling], list[int]]) -> Decode:
        return lambda prompts, sampling: [generate(prompt.tokens, sampling) for prompt in prompts]

    def ngram(name: str) -> Decode:
        return own(methods.decoder(_ngram(tuned[name]), models))

    baseline = own(methods.decoder(methods.resolve("baseline", RECIPE), models))
    return {
        "ar": Contestant(baseline),
        "generate": Contestant(theirs(peer.plain)),
        "ngram": Contestant(ngram("ngram")),
        "prompt_lookup": Contestant(theirs(peer.prompt_lookup)),
        "assisted": Contestant(theirs(peer.assisted)),
        **{name: Contestant(own(decoder)) for name, decoder in drafters.items()},
        f"ar_batch{BATCH}": Contestant(baseline, BATCH, greedy_only=True),
        f"ngram_batch{BATCH}": Contestant(ngram(f"ngram_batch{BATCH}"), BATCH, greedy_only=True),
    }


def _ngram(choice: tune.Choice) -> MethodConfig:
    return MethodConfig(
        "ngram",
        proposer={"type": "ngram", "min": choice.min, "max": choice.max},
        length={"type": "fixed", "k": choice.k},
    )


def _pass(contestants: dict[str, Contestant], prompts: list[Prompt], sampling: Sampling, bar: Bar) -> dict[str, Pass]:
    """Every contestant over every prompt once, in turns; wide ones whenever their batch is full."""
    entered = {name: c for name, c in contestants.items() if sampling.greedy or not c.greedy_only}
    passes = {name: Pass() for name in entered}
    for contestant in entered.values():  # warm-up, not counted
        contestant.decode(prompts[: contestant.batch], dataclasses.replace(sampling, max_new_tokens=8))
    order = list(entered.items())
    for i in range(1, len(prompts) + 1):
        turn = (i + sampling.seed) % len(order)  # nobody is always first, or always behind the same one
        for name, contestant in (*order[turn:], *order[:turn]):
            whole = i % contestant.batch == 0
            if whole:
                began = time.perf_counter()
                texts = contestant.decode(prompts[i - contestant.batch : i], sampling)
                passes[name].seconds += time.perf_counter() - began
                passes[name].tokens += sum(map(len, texts))
                passes[name].texts += texts
        bar.advance(1, "")
    return {name: one for name, one in passes.items() if one.tokens}
