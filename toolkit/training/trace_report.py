"""A trace in figures and tables: whose it is, how much, how well the draft did, what rounds cost, what could be had."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.binding import shortened
from toolkit.errors import UserError
from toolkit.evaluation.table import Table
from toolkit.export.figures import NONE, number, percent
from toolkit.training import oracle, replay
from toolkit.training.replay import Rate
from toolkit.training.traces import Costs, Trace, Windows


def figures(directory: Path) -> dict[str, Any]:
    """Everything that is known of a trace, for programs."""
    trace = Trace.open([directory])
    costs, rounds = trace.known_costs(), trace.rounds()
    temperatures = {}
    for value in trace.header.temperatures:
        of_round = np.isclose(rounds["temperature"].to_numpy(), np.float32(value))
        drafted = rounds["drafted"].to_numpy()[of_round]
        if drafted.any():
            name = f"{value:g}"
            temperatures[name] = _drafted(trace.windows(value), costs.get(name), len(drafted))
    if not temperatures:
        raise UserError(f"{directory}: holds no drafted position yet. Run its train/collect.py command.")
    files = [path for path in directory.rglob("*") if path.is_file()]
    return {
        "header": asdict(trace.header),
        "bytes": sum(path.stat().st_size for path in files),
        "files": len(files),
        "requests": len(np.unique(rounds["request"].to_numpy())),
        "rounds": rounds.num_rows,
        "temperatures": temperatures,
        "costs": {name: asdict(one) for name, one in costs.items()},
    }


def _drafted(windows: Windows, costs: Costs | None, rounds: int) -> dict[str, Any]:
    """Of one temperature. A window's prefix is what stood; tau counts the rounds that drafted nothing, too."""
    valid, accepted = windows.valid, windows.accepted & windows.valid
    prefix = accepted.sum(1)
    reached = valid & (np.arange(valid.shape[1]) <= prefix[:, None])  # all before it stood
    positions = int(valid.sum())
    found = {
        "requests": len(np.unique(windows.request)),
        "rounds": rounds,
        "windows": len(windows),
        "positions": positions,
        "tau": (rounds + int(prefix.sum())) / rounds,
        "means": {name: float(vars(windows)[name][valid].mean()) for name in ("entropy_q", "entropy_p", "kl", "tv")},
        "drafted_by_depth": valid.sum(0).tolist(),
        "accepted_of_reached": _shares(accepted.sum(0), reached.sum(0)),
        "accepted_of_drafted": _shares(accepted.sum(0), valid.sum(0)),
        "analytic": _shares((windows.accept_T[:, :, 0] * valid).sum(0), valid.sum(0)),
        "analytic_of_reached": _shares((windows.accept_T[:, :, 0] * reached).sum(0), reached.sum(0)),
        "accepted_prefixes": np.bincount(prefix, minlength=valid.shape[1] + 1).tolist(),
    }
    if costs is None:
        return found
    lengths = range(1, valid.shape[1] + 1)
    best = {"informed": oracle.informed(windows, costs), "hindsight": oracle.hindsight(windows, costs)}
    return found | {
        "fixed": {str(k): _predicted(oracle.fixed(windows, costs, k)) for k in lengths},
        "oracles": {
            name: _predicted(one.rate) | {"length": float(np.minimum(one.stops, replay.drafted(windows)).mean())}
            for name, one in best.items()
        },
    }


def _predicted(rate: Rate) -> dict[str, float]:
    return {"per_second": rate.per_second, "tau": rate.tau}


def _shares(part: np.ndarray, whole: np.ndarray) -> list[float | None]:
    return [float(p / w) if w else None for p, w in zip(part, whole, strict=True)]


def heading(found: dict[str, Any], directory: Path) -> str:
    """Whose trace it is, in lines."""
    header = found["header"]
    per_temperature = found["temperatures"].items()
    lines = {
        "trace": f"{directory} (schema {header['schema_version']})",
        "target": named(header["binds"]["target"]),
        "draft": f"{named(header['binds']['draft'])}, {header['proposer']['type']}",
        "data": ", ".join(map(task, header["data"])) or "not recorded",
        "sampling": f"temperatures {_listed(header['temperatures'])}; at most {header['max_new_tokens']} tokens, seed "
        f"{header['seed']}",
        "windows": f"up to {header['limit']} tokens",
        "lenience": _listed(header["lenience"]),
        "states kept": ", ".join(header["hidden"]) or "none",
        "size": f"{found['bytes'] / 1e6:,.1f} MB in {found['files']} files",
        "requests": f"{found['requests']:,}, {found['rounds']:,} rounds",
        "positions": "; ".join(f"{one['positions']:,} at temperature {name}" for name, one in per_temperature),
        "created": header["created"],
    }
    return aligned(lines)


def tables(found: dict[str, Any]) -> list[Table]:
    per_temperature = [table for name, one in found["temperatures"].items() for table in _of(name, one)]
    return [*per_temperature, *(_cost_table(*item) for item in found["costs"].items())]


def _of(temperature: str, found: dict[str, Any]) -> list[Table]:
    depths = [str(depth) for depth in range(1, len(found["analytic"]) + 1)]
    named = {
        "accepted, of those that were reached": "accepted_of_reached",
        "accepted, of all drafted": "accepted_of_drafted",
        "analytic acceptance, where reached": "analytic_of_reached",
        "analytic acceptance, of all drafted": "analytic",
    }
    rows = [[title, *map(percent, found[key])] for title, key in named.items()]
    rows.append(["drafted", *(f"{count:,}" for count in found["drafted_by_depth"])])
    means, prefixes = found["means"], found["accepted_prefixes"]
    notes = [
        f"tau {found['tau']:.2f} over {found['rounds']:,} rounds; means of all positions, nats: entropy of q "
        f"{means['entropy_q']:.2f}, of p {means['entropy_p']:.2f}, KL(q||p) {means['kl']:.2f}; TV {means['tv']:.2f}",
        "windows by how many tokens stood: "
        + ", ".join(f"{k}: {percent(count / found['windows'])}" for k, count in enumerate(prefixes)),
    ]
    title = f"Temperature {temperature}: {found['windows']:,} windows, by depth"
    tables = [Table(title, ["", *depths], rows, notes)]
    return [*tables, _speed_table(temperature, found)] if "fixed" in found else tables


def _speed_table(temperature: str, found: dict[str, Any]) -> Table:
    rows = [[f"fixed {k}", number(one["per_second"], 1), number(one["tau"], 2), k] for k, one in found["fixed"].items()]
    rows += [
        [name, number(one["per_second"], 1), number(one["tau"], 2), number(one["length"], 2)]
        for name, one in found["oracles"].items()
    ]
    notes = [
        "predicted from acceptance and costs of this trace; windows begin where the trace's did",
        "informed: the best length, given the tokens that would be drafted and both laws of them; hindsight: given "
        "also which of them will stand, which nobody knows at temperature > 0",
    ]
    return Table(f"Temperature {temperature}: predicted speed", ["length", "tok/s", "tau", "mean length"], rows, notes)


def _cost_table(temperature: str, costs: dict[str, Any]) -> Table:
    lengths = range(len(costs["draft_ms"]))
    rows = [
        [title, *(number(value, 2) for value in costs[key])]
        for title, key in (("drafting, of so many steps", "draft_ms"), ("verifying a window of so many", "verify_ms"))
    ]
    rows.append(["rounds measured", *(str(count) if count else NONE for count in costs["rounds"])])
    note = (
        f"medians, batch {costs['batch']}, {costs['threads']} threads; all else of a round: {costs['host_ms']:.2f} ms"
    )
    return Table(f"Temperature {temperature}: milliseconds a round", ["", *map(str, lengths)], rows, [note])


def aligned(lines: dict[str, str]) -> str:
    width = max(map(len, lines))
    return "\n".join(f"{title:<{width}}  {text}" for title, text in lines.items())


def named(identity: dict[str, Any]) -> str:
    """A model that rows are of."""
    adapters = f", adapters {shortened(identity['adapters'])}" if identity["adapters"] else ""
    return f"{identity['name']}, weights {identity['fingerprint'][:12]}...{adapters}"


def task(node: Any) -> str:
    """What asked."""
    return node["type"] if isinstance(node, dict) and "type" in node else str(node)


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
