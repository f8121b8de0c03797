"""What a run leaves behind: results.json, table.md, two pictures, and the tables on the screen."""

import math
from collections.abc import Sequence
from dataclasses import asdict, replace

from toolkit import methods
from toolkit.engine.types import Request, Sampling
from toolkit.evaluation import counters, equality, plots, routing_report, seeds, system, table
from toolkit.evaluation.equality import Equality, GapOf
from toolkit.evaluation.outdir import OutDir
from toolkit.evaluation.plan import Plan
from toolkit.evaluation.records import SCHEMA_VERSION, Record
from toolkit.evaluation.score import BASELINE, Quality, Speed, inherit, per_correct, quality_summary, speed_summary
from toolkit.files import write_atomic, write_json


def write(plan: Plan, out: OutDir, rows: Sequence[Record]) -> int:
    """Summarise, write, print -> exit code."""
    names = [contender.name for contender in plan.contenders]
    quality = qualities(rows, names)
    speed = speeds(rows, names, quality)
    equal = _equalities(plan, rows)
    routed = routing_report.reports(plan, rows)
    notes = _notes(plan, rows, out.sessions, equal)
    device = plan.models.target.device
    memory = system.peak_label(device)
    write_json(
        out.results,
        {
            "schema_version": SCHEMA_VERSION,
            "name": plan.name,
            "recipe": asdict(plan.recipe),
            "models": plan.models.provenance,
            "methods": {
                c.name: c.described | {"lossless": c.lossless, "grid": plan.cells[c.name].entry}
                for c in plan.contenders
            },
            "metric": plan.setting.task.metric,  # what accuracy is of; null: answers have no verdict
            "untimed": dict(plan.untimed),  # method -> why its speed was not measured
            "sessions": out.sessions,  # each with its system: one, unless the run was killed or extended
            "peak_memory": memory,
            "speed": [asdict(s, dict_factory=_finite) for s in speed],
            "quality": [asdict(q, dict_factory=_finite) for q in quality],
            "equality": [asdict(e) | {"rate": e.rate, "bugs": e.bugs} for e in equal.values()],
            "routing": routed,
            "notes": notes,
        },
    )
    tables = []
    if speed:
        tables.append(table.speed_table(speed, equal, plan.untimed))
        tables.append(table.time_table(speed, memory, device.type))
        tables.append(table.position_table(speed))
        tables += counters.tables(speed, "speed set")
        tables += routing_report.tables(routed)
    if quality:
        tables.append(table.quality_table(quality, plan.setting.task.metric))
        tables += counters.tables(quality, "quality set")
    drawn = [each for each in tables if each is not None]
    write_atomic(out.path / "table.md", table.markdown(plan.name, drawn, notes).encode())
    plots.speed_accuracy(out.path / "speed_accuracy.png", speed, quality)
    plots.acceptance_by_position(out.path / "acceptance_by_position.png", speed)
    table.show(drawn, notes)
    print(f"In {out.path}: {', '.join(sorted(path.name for path in out.path.glob('[!.]*')))}")
    asked = {one.method for one in plan.missing([])}
    return 0 if {row.method for row in rows if row.ok}.issuperset(asked) else 1


def speeds(rows: Sequence[Record], names: Sequence[str], quality: Sequence[Quality]) -> list[Speed]:
    """The speed set's summaries, in the order of `names`."""
    by_method = _by_method(rows, "speed")
    accuracy = {q.method: q for q in quality}
    summaries = [speed_summary(by_method[n], by_method[BASELINE]) for n in names if n in by_method]
    return [replace(s, seconds_per_correct=per_correct(s, accuracy.get(s.method))) for s in summaries]


def qualities(rows: Sequence[Record], names: Sequence[str]) -> list[Quality]:
    """The quality set's summaries; lossless methods inherit the baseline's accuracy."""
    by_method = _by_method(rows, "quality")
    if BASELINE not in by_method:
        return []
    base = quality_summary(by_method[BASELINE], by_method[BASELINE])
    return [quality_summary(by_method[n], by_method[BASELINE]) if n in by_method else inherit(n, base) for n in names]


def _finite(items: list[tuple[str, object]]) -> dict[str, object]:
    """JSON has no NaN: a bound that is not known is null."""
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in items}


def _by_method(rows: Sequence[Record], set_name: str) -> dict[str, list[Record]]:
    by_method: dict[str, list[Record]] = {}
    for row in rows:
        if row.set == set_name:
            by_method.setdefault(row.method, []).append(row)
    return by_method


def _equalities(plan: Plan, rows: Sequence[Record]) -> dict[str, Equality]:
    """Each method's greedy texts against the baseline's; nothing at other temperatures."""
    by_method = _by_method(rows, "speed")
    if plan.recipe.sampling.temperature > 0 or BASELINE not in by_method:
        return {}
    gap_of = _gaps(plan)
    tolerance = equality.near_tie(plan.models.target.dtype)
    baseline = by_method.pop(BASELINE)
    compared = {name: equality.compare(mine, baseline, gap_of, tolerance) for name, mine in by_method.items()}
    return {name: result for name, result in compared.items() if result}


def _gaps(plan: Plan) -> GapOf:
    """Top-2 gap of the token after a prompt and some of its answer: one untimed step of the baseline."""
    decoder = methods.decoder(methods.resolve(BASELINE, plan.name), plan.models, record_gaps=True)
    by_id = {prompt.id: prompt for prompt in plan.prompts}

    def gap_of(prompt_id: str, agreed: list[int]) -> float:
        prompt = by_id[prompt_id]
        request = Request(prompt.request_id, (*prompt.tokens, *agreed))
        return decoder.generate([request], Sampling(max_new_tokens=1))[0].gaps[0]

    return gap_of


def _notes(plan: Plan, rows: Sequence[Record], sessions: Sequence[dict], equal: dict[str, Equality]) -> list[str]:
    """What a reader of the tables has to know about this run."""
    name = plan.models.config.label
    notes = [f"target {name}: {plan.models.provenance[name]['source']}"]
    failed = sum(not row.ok for row in rows)
    if failed:
        notes.append(
            f"{failed} of {len(rows)} rows failed: status error in records.jsonl. The same command retries them"
        )
    used = {row.session for row in rows if row.set == "speed"}
    systems = [session["system"] for session in sessions if session["id"] in used]
    machines = [system.comparable(each) for each in systems]
    if any(machine != machines[0] for machine in machines):
        notes.append(
            "WARNING: the speed set was timed on several machines (sessions in results.json): compare no times"
        )
    versions = system.differing(systems)
    if versions:
        notes.append(
            f"WARNING: the speed set was decoded by several versions of the software: {', '.join(versions)} differ "
            "between its sessions (in results.json); a new out=DIR decodes all with one"
        )
    if len(plan.recipe.seeds) > 1:
        notes.append(seeds.note(plan.contenders, plan.recipe.seeds, plan.recipe.sampling.temperature))
    if not plan.recipe.quality.enabled:
        notes.append("quality.enabled is false: no accuracy was measured")
    for e in equal.values():
        if e.bugs:
            first = next(d for d in e.differences if not d.near_tie)
            notes.append(
                f"BUG: {e.method} is exact, yet {e.bugs} of its {e.n} greedy texts differ from the baseline's without "
                f"a near-tie (first: prompt {first.prompt_id}, token {first.position}, gap {first.gap})"
            )
    return notes
