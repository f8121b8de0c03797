"""`python -m eval RECIPE | DIR... [key=value ...]`, also `draftsmith eval`: a recipe becomes rows, tables and pictures.

Order of a run: the speed set (warm-up, then every method on each block of prompts, in turn), the quality set, the
greedy-equality check, the summary. With `speed.methods: front` the quality set goes first and says who is timed. What
an earlier, killed run left in the output directory is not done again.
"""

import argparse
import time
import uuid
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from toolkit import config
from toolkit.errors import exit_code
from toolkit.evaluation import compose, report, system, timed
from toolkit.evaluation import plan as planning
from toolkit.evaluation import recipe as recipes
from toolkit.evaluation.measure import Contender, decode, measure
from toolkit.evaluation.outdir import OutDir
from toolkit.evaluation.plan import Plan, item
from toolkit.evaluation.progress import Bar
from toolkit.evaluation.prompts import prepare
from toolkit.evaluation.recipe import EvalRecipe
from toolkit.evaluation.records import Record, RecordFile
from toolkit.hub import Models

WARM_UP = 16  # tokens


def main(argv: Sequence[str] | None = None) -> int:
    """Run the recipe that the arguments name, or those that artifact directories make -> the exit code."""
    does = "Measure the methods of a recipe, or of checkpoint directories; a killed run goes on."
    parser = argparse.ArgumentParser(prog="eval", description=does)
    parser.add_argument("what", nargs="+", metavar="RECIPE | DIR... | key=value", help="as sampling.temperature=1.0")
    parser.add_argument("--task", action="append", default=[], help="a task, or several (gsm8k, for directories)")
    arguments = parser.parse_intermixed_args(argv)
    overrides = [word for word in arguments.what if "=" in word and not Path(word).is_dir()]
    named = [word for word in arguments.what if word not in overrides]
    return exit_code(lambda: _run(named, arguments.task, overrides), "the same command goes on from here")


def _run(named: list[str], tasks: list[str], overrides: list[str]) -> int:
    if len(named) == 1 and not Path(named[0]).is_dir() and len(tasks) < 2:
        return evaluate(recipes.load(named[0], [*(f"task={task}" for task in tasks), *overrides]), named[0])
    composed = compose.compose(named, tasks, overrides)
    print(compose.described(composed), flush=True)
    codes = [evaluate(one.recipe, one.name) for one in composed]
    outs = [str(one.recipe.out) for one in composed]
    if len(outs) > 1:
        print(f"side by side: python -m eval.compare {' '.join(outs)}")
    return max(codes)


def evaluate(recipe: EvalRecipe, source: str) -> int:
    """Run a recipe -> 0, or 1 when some method got through no prompt at all. `source`: how the user named it."""
    return measured(recipe, source)[0]


def measured(recipe: EvalRecipe, source: str) -> tuple[int, list[Record]]:
    """As `evaluate`, and the rows that the recipe asks for."""
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    asked, recipe = recipe, recipes.with_artifacts(recipe, source)
    chosen = recipes.contenders(recipe, source)
    module, options = config.piece("tasks", recipe.task, f"{source}: task")
    task = module.build(options)
    models = Models(recipe.target)
    contenders = [planning.contender(method, models, recipe) for method, _ in chosen.values()]
    cells = {name: cell for name, (_, cell) in chosen.items()}
    setting = planning.setting(recipe, models, session=uuid.uuid4().hex[:12], task=task)
    prompts = prepare(task, models.target.tokenizer, recipe.chat_template, recipe.thinking)
    plan = Plan(Path(source).stem, recipe, models, prompts, contenders, setting, cells)
    # How many problems are taken is no part of the identity: a recipe may be extended
    dataset = {"type": module.__name__.rpartition(".")[2], **asdict(options), "limit": None}
    with OutDir(Path(recipe.out or f"results/{plan.name}"), source, plan.identity(dataset)) as out:
        out.keep_recipe(asdict(asked))
        records = RecordFile(out.records)
        plan.tidy(records)
        plan = plan.narrowed(records.rows)
        if plan.missing(records.rows):
            started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            out.add_session({"id": setting.session, "started": started, "system": system.metadata()})
        if recipe.speed.methods == timed.FRONT:
            _run_quality(plan, records)
            plan = plan.narrowed(records.rows)
        _run_speed(plan, records)
        _run_quality(plan, records)
        own = plan.own(records.rows)
        return report.write(plan, out, own), own


def _run_speed(plan: Plan, records: RecordFile) -> None:
    """Every method on a block, then the next block; who goes first rotates, so that nobody always finds warm caches."""
    missing = plan.missing(records.rows)
    blocks, contenders = plan.speed_blocks(), plan.speed_contenders()
    todo: dict[int, list[Contender]] = defaultdict(list)
    for i, block in enumerate(blocks):
        turn = i % len(contenders)
        for contender in (*contenders[turn:], *contenders[:turn]):
            if item(contender, block.prompts[0], block) in missing:
                todo[i].append(contender)
    if not todo:
        return
    sampling = plan.setting.sampling.seeded(0)
    for contender in contenders:
        decode(
            contender.decoder,
            blocks[0].prompts,
            replace(sampling, max_new_tokens=min(WARM_UP, sampling.max_new_tokens)),
        )
    with Bar("speed set", sum(len(blocks[i].prompts) * len(turns) for i, turns in todo.items())) as bar:
        for i, turns in todo.items():
            for contender in turns:
                records.append(measure(plan.setting, contender, blocks[i]))
                bar.advance(len(blocks[i].prompts), contender.name)


def _run_quality(plan: Plan, records: RecordFile) -> None:
    """The missing prompts of each method, those of similar length together."""
    missing = plan.missing(records.rows)
    size = plan.recipe.quality.batch
    jobs = []
    for contender in plan.quality_contenders():
        for block in plan.quality_blocks():
            prompts = [prompt for prompt in block.prompts if item(contender, prompt, block) in missing]
            prompts.sort(key=lambda prompt: len(prompt.tokens))
            batches = [prompts[start : start + size] for start in range(0, len(prompts), size)]
            jobs += [(contender, replace(block, index=i, prompts=batch)) for i, batch in enumerate(batches)]
    if not jobs:
        return
    with Bar("quality set", sum(len(block.prompts) for _, block in jobs)) as bar:
        for contender, block in jobs:
            records.append(measure(plan.setting, contender, block))
            bar.advance(len(block.prompts), contender.name)
