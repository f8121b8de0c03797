"""What is said of solved JointAdaSpec policies: figures on held-out windows, coverage, files, a table.

Played on recorded windows, a policy begins its rounds where the trace did, with the trace's K_prev: a prediction, to be
confirmed by decoding.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save as serialised

from toolkit import artifact
from toolkit.evaluation import table
from toolkit.evaluation.table import Table
from toolkit.export.figures import number, percent
from toolkit.files import write_atomic, write_json
from toolkit.training import joint_solve, oracle
from toolkit.training.joint_estimate import Records, Rule, states
from toolkit.training.joint_solve import Played, Solved
from toolkit.training.traces import Costs, Windows

WELL_KNOWN = 20  # records of a state and action


def judged(solved: Solved, records: Records, held: Windows) -> dict[str, Any]:
    """One solution on the windows that it was estimated from, and on those that were held out."""
    here = states(held, records.bins)
    played = joint_solve.play(held, here, solved.rule, records.bins.k_max, records.costs)
    return {
        "c_time": solved.c_time,
        "turns": solved.turns,
        "lossless": bool((solved.rule.stop | (solved.rule.lenient == 0)).all()),
        "train": _figures(solved.played),
        "held_out": _figures(played) | {"well_known": _well_known(solved.rule, records, held, here)},
    }


def coverage(records: Records) -> dict[str, Any]:
    """How much of the table was recorded."""
    visits, kinds = records.visits, np.ones_like(records.visits, bool)
    kinds[np.arange(len(visits)) % (records.bins.k_max + 1) == records.bins.k_max, 1] = False
    known = visits >= WELL_KNOWN
    return {
        "visited_states": int((records.count > 0).sum()),
        "pairs": int(kinds.sum()),
        "well_known_pairs": int((known & kinds).sum()),
        "records_on_well_known": round(float(visits[known].sum() / visits.sum()), 4),
    }


def beside(held: Windows, costs: Costs, k_max: int) -> dict[str, Any]:
    """Windows of fixed length, lossless, and the oracles, on the same windows."""
    known = {"informed": oracle.informed(held, costs), "hindsight": oracle.hindsight(held, costs)}
    return {
        "fixed": [{"k": k, **asdict(oracle.fixed(held, costs, k))} for k in range(1, k_max + 1)],
        "oracles": [{"name": name, **asdict(one.rate)} for name, one in known.items()],
    }


def write(directory: Path, report: dict[str, Any], solved: dict[str, Solved]) -> None:
    """report.json, and values.safetensors with what decoding does not need: V, Q and the rewards by solution."""
    tables = {
        f"{name}/{label}": np.ascontiguousarray(values, np.float32)
        for label, one in solved.items()
        for name, values in (("V", one.value), ("Q", one.q), ("R", one.rewards))
    }
    with artifact.writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        write_atomic(directory / "values.safetensors", serialised(tables))
        write_json(directory / "report.json", report)


def show(report: dict[str, Any]) -> None:
    fixed, oracles = report["beside"]["fixed"], report["beside"]["oracles"]
    rows = [
        _row(f"{one['order']} kappa {one['kappa']:g}", one["lossless"], one["held_out"]) for one in report["solutions"]
    ]
    rows += [[f"fixed {one['k']}", "yes", *_rate(one), number(0.0, 4), str(one["k"]), "-"] for one in fixed]
    rows += [[f"oracle: {one['name']}", "yes", *_rate(one), number(0.0, 4), "-", "-"] for one in oracles]
    columns = ["policy", "lossless", "tok/s", "tau", "D/token", "drafted", "well known"]
    count = f"{report['windows']['held_out']} windows of {report['requests']['held_out']} requests"
    notes = [
        f"predicted from recorded windows and measured costs; well known: visits on pairs with {WELL_KNOWN} records",
        f"{report['bins']['states']} states; {report['coverage']['visited_states']} of them recorded",
        *(
            f"{one['bins']} x {one['bins']} bins: {one['states']} states, {one['held_out']['per_second']:.2f} tok/s at "
            f"kappa {one['kappa']:g}, {one['held_out']['well_known']:.1%} of visits well known"
            for one in report["sweep"]
        ),
    ]
    table.show([Table(f"Held out: {count}", columns, rows, notes)], [])


def _row(name: str, lossless: bool, figures: dict[str, float]) -> list[str]:
    return [
        name,
        "yes" if lossless else "no",
        *_rate(figures),
        number(figures["divergence_per_token"], 4),
        number(figures["drafted"], 2),
        percent(figures["well_known"]),
    ]


def _rate(figures: dict[str, float]) -> list[str]:
    return [number(figures["per_second"], 2), number(figures["tau"], 2)]


def _figures(played: Played) -> dict[str, float]:
    return {
        "per_second": 1000 * played.pace,
        "tau": played.tokens,
        "divergence_per_token": played.divergence / played.tokens,
        "drafted": played.length,
    }


def _well_known(rule: Rule, records: Records, windows: Windows, here: np.ndarray) -> float:
    """Share of the policy's decisions on these windows that are about a state and action with enough records."""
    bins = records.bins
    end = joint_solve.ends(here, rule, bins.k_max)
    asked = (np.arange(bins.k_max + 1) <= end[:, None]) & windows.valid[:, : bins.k_max + 1]
    asked[:, joint_solve.longest(rule, bins.k_max) :] = False  # nobody is asked at the limit
    visits = np.where(rule.stop[here], records.visits[here, 0], records.visits[here, 1])
    return float((visits[asked] >= WELL_KNOWN).mean()) if asked.any() else 1.0
