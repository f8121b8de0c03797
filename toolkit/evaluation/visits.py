"""`python -m eval.visits RECIPE`: do JointAdaSpec policies know the states that they are asked about while decoding?

A table is learned from recorded windows, and decoding goes its own way. For each such policy of an eval recipe, this
decodes the prompts of the speed set and counts the visits to pairs of state and action that had enough records.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from torch import Tensor

from toolkit import config, methods, sources
from toolkit.engine.types import Batch, Draft, DraftView, Notes, Request, Sampling, TargetView, Verdict
from toolkit.errors import UserError
from toolkit.evaluation import recipe as recipes
from toolkit.evaluation.prompts import Prompt, prepare
from toolkit.files import write_json
from toolkit.hub import Models
from toolkit.lengths.jointadaspec import JointAdaSpec
from toolkit.methods import MethodConfig
from toolkit.policy import KIND

KNOWN = 20  # records behind a pair that is called well known


@dataclass
class Visits:
    """Of one method, over the prompts of the speed set."""

    method: str
    policy: str  # its directory
    states: int  # of the table
    visits: int
    known: int  # visits on pairs with KNOWN records or more


class Counted:
    """A JointAdaSpec length policy that counts the records behind what it does."""

    def __init__(self, inner: JointAdaSpec) -> None:
        inner.attend()
        self.inner, self.visits, self.known = inner, 0, 0
        self.limit, self.reads_logits = inner.limit, inner.reads_logits
        self.writes, self.made_for = inner.writes, inner.made_for

    def prefill(self, batch: Batch) -> None:
        self.inner.prefill(batch)

    def stop(self, view: DraftView) -> tuple[Tensor | None, Notes]:
        behind = self.inner.records[self.inner.state(view).cpu().numpy()]
        self.visits += len(behind)
        self.known += int((behind >= KNOWN).sum())
        return self.inner.stop(view)

    def observe(self, batch: Batch, draft: Draft, verdict: Verdict, target: TargetView) -> None:
        self.inner.observe(batch, draft, verdict, target)

    def keep(self, rows: Tensor) -> None:
        self.inner.keep(rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Count for the recipe that the arguments name -> the exit code."""
    does = "Count the records behind what JointAdaSpec policies do while they decode."
    return config.program("eval.visits", does, argv, _load_and_run, "speed.prompts=8 out=DIR")


def _load_and_run(path: str, overrides: list[str]) -> int:
    recipe = recipes.with_artifacts(recipes.load(path, overrides), path)
    chosen = [method for method, _ in recipes.contenders(recipe, path).values() if method.length["type"] == KIND]
    if not chosen:
        raise UserError(f"{path}: key 'methods': none has a length of type {KIND}, of which visits are counted.")
    module, options = config.piece("tasks", recipe.task, f"{path}: task")
    task, models = module.build(options), Models(recipe.target)
    prompts = prepare(task, models.target.tokenizer, recipe.chat_template, recipe.thinking)[: recipe.speed.prompts]
    sampling = replace(
        recipe.sampling.seeded(recipe.seeds[0]),
        max_new_tokens=recipe.speed.max_new_tokens or recipe.sampling.max_new_tokens,
    )
    found = [visits(method, models, prompts, sampling) for method in chosen]
    out = Path(recipe.out or f"results/{Path(path).stem}") / "visits.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(
        out, {"recipe": path, "prompts": len(prompts), "known_from": KNOWN, "methods": [asdict(one) for one in found]}
    )
    sources.say(f"written to {out}")
    return 0


def visits(method: MethodConfig, models: Models, prompts: Sequence[Prompt], sampling: Sampling) -> Visits:
    """Decode the prompts one by one."""
    decoder = methods.decoder(method, models)
    counted = decoder.length = Counted(decoder.length)
    for prompt in prompts:
        decoder.generate([Request(prompt.request_id, prompt.tokens)], sampling)
    of = Visits(method.name, method.length["policy"], len(counted.inner.records), counted.visits, counted.known)
    sources.say(f"{of.method}: {of.known / of.visits:.1%} of {of.visits} visits have {KNOWN} records or more")
    return of
