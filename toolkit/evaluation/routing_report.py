"""An eval run's routers: which draft served what, and what that was worth beside each draft alone.

Of the speed set, so routing itself is on the clock. Each draft alone is a method that routes always to it (`only_NAME`
with `use: [router]`). Times are of single prompts, so they are compared at batch 1; shares are known at any.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from toolkit.evaluation import routing
from toolkit.evaluation.plan import Plan
from toolkit.evaluation.records import Record
from toolkit.evaluation.routing import Outcomes
from toolkit.evaluation.table import Table
from toolkit.export.figures import number, percent


def reports(plan: Plan, rows: Sequence[Record]) -> dict[str, dict[str, Any]]:
    """By method that routes; {} where none does."""
    by_method: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.set == "speed" and row.ok:
            by_method[row.method][row.prompt_id].append(row)
    domains = {one.id: str(one.problem.meta.get("domain", plan.setting.task.name)) for one in plan.prompts}
    pieces = {one.name: one.config["proposer"] for one in plan.contenders if one.config["proposer"]["type"] == "routed"}
    alone = {name: piece["router"]["draft"] for name, piece in pieces.items() if piece["router"]["type"] == "fixed"}
    found = {}
    for name, piece in pieces.items():
        if name not in alone and by_method[name]:
            controls = {alone[other]: by_method[other] for other in alone if _same_drafts(piece, pieces[other])}
            found[name] = _report(by_method[name], controls, domains)
    return found


def tables(found: Mapping[str, Mapping[str, Any]]) -> list[Table]:
    """A table a router: shares by domain; regret and gain below it."""
    return [_table(name, one) for name, one in found.items()]


def _same_drafts(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(one[key] == other[key] for key in ("drafts", "artifact"))


def _report(
    mine: Mapping[str, list[Record]], controls: Mapping[str, Mapping[str, list[Record]]], domains: Mapping[str, str]
) -> dict[str, Any]:
    served = {prompt: _served(rows) for prompt, rows in mine.items()}
    used = {name for counts in served.values() for name in counts}
    if not used <= controls.keys():  # to compare the prompts of some drafts only would favour these
        controls = {}
    names = list(controls) or sorted(used)
    prompts = [prompt for prompt in mine if all(prompt in other for other in controls.values())]
    chosen = np.array([names.index(served[prompt].most_common(1)[0][0]) for prompt in prompts], dtype=int)
    of = [domains[prompt] for prompt in prompts]
    if not prompts:
        return {"prompts": 0, "drafts": names, "shares": {}}
    all_mine = [row for prompt in prompts for row in mine[prompt]]
    took = sum(row.routing_seconds for row in all_mine)
    shares = {
        "prompts": len(prompts),
        "drafts": names,
        "shares": routing.shares(names, of, chosen),
        "choosing": {"ms_a_prompt": 1e3 * took / len(all_mine), "share_of_time": _share(all_mine, took)},
    }
    single = all(row.batch == 1 for side in (mine, *controls.values()) for rows in side.values() for row in rows)
    if not (controls and single):
        return shares
    ms = np.array([[_ms(controls[name][prompt]) for name in names] for prompt in prompts])
    spent = np.array([_ms(mine[prompt]) for prompt in prompts])
    return shares | routing.report(Outcomes(names, of, ms, chosen, spent))


def _share(rows: Sequence[Record], took: float) -> float:
    """Of the time that these rows' batches took; a row's clock is its batch's."""
    return took / sum(row.times["total"] / row.batch for row in rows)


def _served(rows: Sequence[Record]) -> Counter[str]:
    """Rounds by draft, over seeds and repeats."""
    total: Counter[str] = Counter()
    for row in rows:
        total.update(row.routed)
    return total


def _ms(rows: Sequence[Record]) -> float:
    """Milliseconds a token."""
    return 1e3 * sum(row.times["total"] for row in rows) / sum(row.n_tokens for row in rows)


def _table(method: str, found: Mapping[str, Any]) -> Table:
    names = found["drafts"]
    rows = [[domain, *(percent(share[name]) for name in names)] for domain, share in found["shares"].items()]
    notes = [f"share of each domain's prompts that went to a draft; {found['prompts']} prompts"]
    if "choosing" in found:
        notes.append(
            f"choosing took {number(found['choosing']['ms_a_prompt'], 1)} ms a prompt, "
            f"{percent(found['choosing']['share_of_time'])} of the time"
        )
    if "regret" in found:
        oracle = found["oracle_shares"]
        rows += [[f"{domain}: fastest", *(percent(oracle[domain][name]) for name in names)] for domain in oracle]
        ms, regret = found["ms"], found["regret"]
        notes.append(
            f"ms a token: routed {number(ms['routed'], 2)}, best single draft ({found['single_best_here']}) "
            f"{number(ms['single_best_here'], 2)}, by lot {number(ms['random'], 2)}, oracle {number(ms['oracle'], 2)}"
        )
        notes.append(
            f"regret: routed {_bounds(regret['routed'])}, best single draft {_bounds(regret['single_best_here'])}; "
            f"routing gain over that draft {_bounds(found['gain_best_here'], 3)}x; fastest draft found on "
            f"{percent(found['right'])}"
        )
        notes.append(f"chosen where a draft was the fastest: {_confused(names, found['confusion'])}")
        if found["never_fastest"]:
            notes.append(f"never the fastest: {', '.join(found['never_fastest'])}")
    return Table(f"Routing: {method} (speed set)", ["domain", *names], rows, notes)


def _confused(names: Sequence[str], confusion: Sequence[Sequence[int]]) -> str:
    """`code: code 12, chat 3; chat: chat 9`."""
    rows = {
        name: ", ".join(f"{other} {count}" for other, count in zip(names, row, strict=True) if count)
        for name, row in zip(names, confusion, strict=True)
    }
    return "; ".join(f"{name}: {row}" for name, row in rows.items() if row)


def _bounds(one: Mapping[str, float | None], digits: int = 2) -> str:
    if one["low"] is None:
        return number(one["value"], digits)
    return f"{number(one['value'], digits)} [{number(one['low'], digits)}, {number(one['high'], digits)}]"
