"""`python -m eval RECIPE | DIR... [key=value ...]`, also `draftsmith eval`: a recipe becomes rows, tables and pictures.

Order of a run: the speed set (warm-up, then every method on each block of prompts, in turn), the quality set, the
greedy-equality check, the summary. With `speed.methods: front` the quality set goes first and says who is timed. What
an earlier, killed run left in the output directory is not done again.

Under `accelerate launch` the processes share the quality set. The first one does all the rest (`_lead`), while the
others wait (`_help`): the two meet at the same barriers.
"""

import argparse
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from toolkit import config
from toolkit.errors import exit_code
from toolkit.evaluation import agreement, asked, compose, parts, report, timed
from toolkit.evaluation import plan as planning
from toolkit.evaluation import recipe as recipes
from toolkit.evaluation.agreement import Session
from toolkit.evaluation.measure import Block, Contender, decode, measure
from toolkit.evaluation.outdir import RECIPE, RECORDS, OutDir
from toolkit.evaluation.plan import Plan, item
from toolkit.evaluation.progress import Bar
from toolkit.evaluation.prompts import prepare
from toolkit.evaluation.ranks import Ranks, joined
from toolkit.evaluation.recipe import EvalRecipe
from toolkit.evaluation.records import Record, RecordFile, read
from toolkit.hub import Models

WARM_UP = 16  # tokens


def say_how_to_report(runs: Sequence[Path], out: Path) -> None:
    print(f"one page of all: draftsmith report {' '.join(map(str, runs))} --out {out}")


def main(
    argv: Sequence[str] | None = None, reported: Callable[[Sequence[Path], Path], None] = say_how_to_report
) -> int:
    """Run the recipe that the arguments name, or those that artifact directories make -> the exit code.

    reported: what follows the runs of directories, given these and the place of a report.
    """
    does = "Measure the methods of a recipe, or of checkpoint directories; a killed run goes on."
    parser = argparse.ArgumentParser(prog="eval", description=does)
    parser.add_argument("what", nargs="+", metavar="RECIPE | DIR... | key=value", help="as sampling.temperature=1.0")
    parser.add_argument("--task", action="append", default=[], help="a task, or several (gsm8k, for directories)")
    arguments = parser.parse_intermixed_args(argv)
    overrides = [word for word in arguments.what if _is_override(word)]
    named = [word for word in arguments.what if word not in overrides]
    return exit_code(lambda: _run(named, arguments.task, overrides, reported), "the same command goes on from here")


def _is_override(word: str) -> bool:
    try:
        return "=" in word and not Path(word).is_dir()
    except OSError:  # too long for a name, as lists of methods are
        return True


def _run(
    named: list[str], tasks: list[str], overrides: list[str], reported: Callable[[Sequence[Path], Path], None]
) -> int:
    compose.check_named(named, tasks)
    ranks = joined()
    if not Path(named[0]).is_dir():
        recipe = recipes.load(named[0], [*(f"task={task}" for task in tasks), *overrides])
        return measured(recipe, named[0], ranks)[0]
    composed = compose.compose(named, tasks, overrides)
    if ranks.first:
        print(compose.described(composed), flush=True)
    codes = [measured(one.recipe, one.name, ranks)[0] for one in composed]
    outs = [Path(one.recipe.out) for one in composed]
    if ranks.first:
        reported(outs, (outs[0] if len(outs) == 1 else outs[0].parent) / "report")
    return max(codes)


def measured(recipe: EvalRecipe, source: str, ranks: Ranks) -> tuple[int, list[Record]]:
    """Run a recipe -> 0, or 1 when some method got through no prompt at all, and the rows that the recipe asks for.

    `source`: how the user named it. Only the first process knows of all rows; of the others nothing is to be told.
    """
    ranks.use_threads(recipe.threads)
    plain, recipe = recipe, recipes.with_artifacts(recipe, source)
    chosen = recipes.contenders(recipe, source)
    module, options = config.piece("tasks", recipe.task, f"{source}: task")
    task = module.build(options)
    models = Models(recipe.target)
    contenders = [planning.contender(method, models, recipe) for method, _ in chosen.values()]
    cells = {name: cell for name, (_, cell) in chosen.items()}
    setting = planning.setting(recipe, models, session=uuid.uuid4().hex[:12], task=task)
    prompts = prepare(task, models.target.tokenizer, recipe.chat_template, recipe.thinking)
    plan = Plan(_name(source), recipe, models, prompts, contenders, setting, cells)
    # How many problems are taken is no part of the identity: a recipe may be extended
    dataset = {"type": module.__name__.rpartition(".")[2], **asdict(options), "limit": None}
    path, identity = Path(recipe.out or f"results/{plan.name}"), plan.identity(dataset)
    plan, session = agreement.agreed(plan, identity, ranks)
    if not ranks.first:
        _help(plan, path / RECORDS, ranks)
        return 0, []
    with OutDir(path, source, identity) as out:
        out.keep_recipe(asdict(plain))
        return _lead(plan, session, out, ranks)


def _name(source: str) -> str:
    """Of a run: its recipe's, and of one that goes on from its directory that directory's."""
    path = Path(source)
    return path.resolve().parent.name if path.name == RECIPE else path.stem


def _lead(plan: Plan, session: Session, out: OutDir, ranks: Ranks) -> tuple[int, list[Record]]:
    """Everything, but for what others take of the quality set."""
    records = RecordFile(out.records)
    parts.merge(records)
    plan.tidy(records)
    asked.keep(plan, out.path)
    plan = plan.narrowed(records.rows)
    if missing := plan.missing(records.rows):
        started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        rows = len(records.rows) + len(missing)  # in the end; fewer where `front` then leaves some untimed
        out.add_session(
            {"id": session.id, "started": started, "system": session.system, "processes": ranks.count, "rows": rows},
        )
    front = plan.recipe.speed.methods == timed.FRONT
    ranks.wait()  # nobody is at work when the clock runs
    if not front:
        _run_speed(plan, records)
    ranks.wait()
    if jobs := _quality_jobs(plan, records.rows):
        _run_quality(plan, jobs, records if ranks.count == 1 else parts.own(records.path, session.id, ranks), ranks)
        parts.merge(records)
    if front:
        plan = plan.narrowed(records.rows)
        _run_speed(plan, records)
    own = plan.own(records.rows)
    code = report.write(plan, out, own)
    ranks.wait()
    return code, own


def _help(plan: Plan, records: Path, ranks: Ranks) -> None:
    """The share of a process that is not the first. What it reads nobody writes to meanwhile."""
    ranks.wait()
    ranks.wait()
    if jobs := _quality_jobs(plan, read(records).rows):
        _run_quality(plan, jobs, parts.own(records, plan.setting.session, ranks), ranks)
    ranks.wait()


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


def _quality_jobs(plan: Plan, there: Sequence[Record]) -> list[tuple[Contender, Block]]:
    """The missing prompts of each method, those of similar length together."""
    missing = plan.missing(there)
    size = plan.recipe.quality.batch
    jobs = []
    for contender in plan.quality_contenders():
        for block in plan.quality_blocks():
            prompts = [prompt for prompt in block.prompts if item(contender, prompt, block) in missing]
            prompts.sort(key=lambda prompt: len(prompt.tokens))
            batches = [prompts[start : start + size] for start in range(0, len(prompts), size)]
            jobs += [(contender, replace(block, index=i, prompts=batch)) for i, batch in enumerate(batches)]
    return jobs


def _run_quality(plan: Plan, jobs: Sequence[tuple[Contender, Block]], into: RecordFile, ranks: Ranks) -> None:
    """Whole batches are shared out, so that a text has the same company however many processes there are."""
    total = sum(len(block.prompts) for _, block in jobs)
    with ranks.together(), Bar("quality set", total, shown=ranks.first) as bar:
        for contender, block in ranks.take(jobs):
            into.append(measure(plan.setting, contender, block))
            bar.reach(ranks.done(len(block.prompts)), contender.name)
        ranks.wait()
        if bar.done < total:
            bar.reach(total, "all")
