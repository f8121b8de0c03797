"""The conditions of a policy on a trace: figures for programs, tables for people, pictures."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from toolkit import artifact, policy
from toolkit.artifact import Manifest
from toolkit.binding import shortened
from toolkit.errors import UserError
from toolkit.evaluation.table import Table
from toolkit.export.figures import NONE, bounds, percent, share
from toolkit.files import finite, write_json
from toolkit.policy import KIND, Policy, Solution
from toolkit.training import conditions, conditions_chain, conditions_plots, conditions_rows, from_traces, oracle
from toolkit.training.conditions import FEWEST, Means
from toolkit.training.conditions_rows import Playback
from toolkit.training.traces import HEADER, Costs, Trace, Windows

JOINT = policy.ORDERS[0]


@dataclass(frozen=True)
class Checked:
    """What was found, and what the pictures are drawn from."""

    figures: dict[str, Any]
    policy: Policy
    joint: Solution
    others: list[Solution]
    windows: Windows
    played: Playback


def check(directory: Path, traces: Sequence[Path], kappa: float, temperature: float | None) -> Checked:
    """The joint solution with this kappa, judged on the windows of one temperature (None: that it was solved at).

    The conditions on all of them, as they are of the records; its rate on what it was not solved from.
    """
    (found, manifest), trace = _read(directory), Trace.open(traces)
    _same_pair(directory, manifest, trace, found)
    joint = found.solution(JOINT, kappa, str(directory))
    others = [one for one in found.solutions if one.kappa == kappa and one.order != JOINT]
    chosen = found.temperature if temperature is None else temperature
    windows, costs = trace.windows(chosen), trace.costs(chosen)
    asked, moves = conditions_rows.records(windows, found.bins, joint, costs)
    means = Means(asked)
    names = ["stop", *(f"continue T={value:g}" for value in found.lenience)]
    judged = [
        *conditions.rewards_fall(means, found.bins.shape, names),
        *conditions.uncertainty_lasts(means),
        *conditions.boxes_by_state(means, found.bins.shape, names),
        *conditions.boxes_by_lenience(means, names),
    ]
    chain = conditions_chain.stationary(moves, joint.action)
    held, split = _held_out(directory, manifest, found, trace, windows)
    figures = {
        "policy": str(directory),
        "traces": [str(path) for path in traces],
        "temperature": chosen,
        "solved_at": found.temperature,
        "kappa": kappa,
        "c_time": joint.c_time,
        "requests": len(np.unique(windows.request)),
        "windows": len(windows),
        "coverage": _coverage(found, means),
        "conditions": [asdict(one) for one in judged],
        "cascades": [
            asdict(conditions_chain.difference(joint.action, other.action, other.order, chain)) for other in others
        ],
        "rates": split | _rates(held, costs, conditions_rows.play(held, found.bins, joint, costs)),
    }
    return Checked(figures, found, joint, others, windows, conditions_rows.play(windows, found.bins, joint, costs))


def write(checked: Checked, directory: Path) -> None:
    """conditions.json and the pictures."""
    with artifact.writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        write_json(directory / "conditions.json", finite(checked.figures))
        windows, label = checked.windows, f"{checked.joint.label}, {_temperatures(checked.figures)}"
        conditions_plots.surfaces(directory / "surfaces.png", checked.policy, checked.joint)
        conditions_plots.monotonicity(
            directory / "monotonicity.png", checked.played.stops, windows.entropy_q[:, 0], windows.k_prev, label
        )
        conditions_plots.divergence_set(directory / "divergence_set.png", checked.policy, checked.joint, checked.others)


def tables(figures: dict[str, Any]) -> list[Table]:
    return [_conditions(figures), _cascades(figures), _speeds(figures)]


def _read(directory: Path) -> tuple[Policy, Manifest]:
    manifest = artifact.verify(directory)
    if manifest.kind != KIND:
        raise UserError(f"{directory / artifact.MANIFEST}: key 'kind' is '{manifest.kind}'; expected '{KIND}'.")
    return policy.read(directory), manifest


def _same_pair(directory: Path, manifest: Manifest, trace: Trace, found: Policy) -> None:
    """The trace is of the policy's target and draft, its grid and its lengths."""
    bound, header, where = manifest.binds, trace.header, trace.directories[0] / HEADER
    for role in ("target", "draft"):
        theirs, ours = bound[role], header.binds[role]
        if (theirs["fingerprint"], theirs["adapters"]) != (ours["fingerprint"], ours["adapters"]):
            raise UserError(
                f"{directory / artifact.MANIFEST}: key 'binds.{role}': the policy is of {_named(theirs)}, and "
                f"{where} is of {_named(ours)}. Conditions are judged on a trace of the policy's own pair: give "
                "one of that."
            )
    if list(found.lenience) != header.lenience:
        raise UserError(
            f"{where}: key 'lenience' is {header.lenience}, and {directory} chooses from {list(found.lenience)}. What "
            "was not recorded is not approximated: collect a trace with the policy's grid."
        )
    if found.bins.k_max >= header.limit:
        raise UserError(
            f"{where}: key 'limit' is {header.limit}, and {directory} drafts up to {found.bins.k_max} tokens. "
            "Collect a trace with longer windows, so that it is known what follows the longest."
        )


def _held_out(
    directory: Path, manifest: Manifest, found: Policy, trace: Trace, windows: Windows
) -> tuple[Windows, dict[str, Any]]:
    """Windows of the requests that were held out when the policy was solved, and what is to be said of them.

    Of other traces than it was solved from it is the same share, drawn alike; nobody knows what it has learned from.
    """
    recipe = manifest.recipe.get("config", {})
    share, seed = recipe.get("valid"), recipe.get("seed")
    if not isinstance(share, float) or not isinstance(seed, int):
        raise UserError(
            f"{directory / artifact.MANIFEST}: key 'recipe.config' has valid {share!r} and seed {seed!r}; expected the "
            "share of requests that was held out and the seed that they were drawn with. Train the policy again."
        )
    own = manifest.data.get("fingerprint") == from_traces.fingerprint(trace)
    request = windows.request
    if own and windows.temperature != found.temperature:
        request = trace.windows(found.temperature).request
    held = windows.of(np.isin(windows.request, request[from_traces.held_out(request, share, seed)]))
    if not len(held):
        raise UserError(
            f"{trace.directories[0]}: no held-out request has a window at temperature {windows.temperature:g}. Collect "
            "more prompts."
        )
    return held, {"own": own, "valid": share, "seed": seed, "requests": len(np.unique(held.request))}


def _temperatures(figures: dict[str, Any]) -> str:
    solved, judged = figures["solved_at"], figures["temperature"]
    return f"temperature {judged:g}" if solved == judged else f"solved at temperature {solved:g}, judged at {judged:g}"


def _named(identity: dict[str, Any]) -> str:
    adapters = f", adapters {shortened(identity['adapters'])}" if identity["adapters"] else ""
    return f"{identity['name']} (weights {identity['fingerprint'][:12]}...{adapters})"


def _coverage(found: Policy, means: Means) -> dict[str, int]:
    actions = len(found.lenience)
    return {
        "fewest": FEWEST,
        "states": found.bins.states,
        "states_visited": len(means.states),
        "states_judged": int((means.visits[:, 0] >= FEWEST).sum()),
        "pairs": found.bins.states + found.bins.states // found.bins.shape[2] * found.bins.k_max * actions,
        "pairs_visited": int((means.visits > 0).sum()),
        "pairs_judged": int((means.visits >= FEWEST).sum()),
    }


def _rates(windows: Windows, costs: Costs, played: Playback) -> dict[str, Any]:
    """Predicted tokens/s, with intervals by request; the share of the gap to each oracle that its lengths close.

    Oracles are of the exact rule, so that share is of the policy's lengths with T = 1 everywhere.
    """
    k, _ = oracle.best_fixed(windows, costs)
    best = oracle.fixed_outcome(windows, costs, k)
    oracles = {
        "informed": oracle.informed(windows, costs).outcome,
        "hindsight": oracle.hindsight(windows, costs).outcome,
    }
    everything = {"policy": played.outcome, "its lengths, T=1": played.exact, f"fixed {k}": best} | oracles
    return {
        "per_second": {name: asdict(oracle.per_second(windows.request, one)) for name, one in everything.items()},
        "best_fixed": k,
        "gap_share": {
            name: asdict(oracle.gap_share(windows.request, played.exact, best, one)) for name, one in oracles.items()
        },
        "divergence": float(played.divergence.sum() / played.outcome[0].sum()),
    }


def _conditions(figures: dict[str, Any]) -> Table:
    rows = [
        [
            f"{one['condition']} {one['about']}",
            _figure(one["value"], one["low"], one["high"]),
            one["verdict"],
            f"{one['judged']:,} / {one['possible']:,}",
            f"{one['trivial']:,}" if one["condition"] in ("C3", "C4") else "",
        ]
        for one in figures["conditions"]
    ]
    seen = figures["coverage"]
    notes = [
        f"{seen['states_visited']:,} of {seen['states']:,} states visited, {seen['states_judged']:,} with "
        f"{seen['fewest']} records or more; of {seen['pairs']:,} state-action pairs {seen['pairs_visited']:,} visited, "
        f"{seen['pairs_judged']:,} judged",
        "C1: Spearman's rho of the reward at each place k of its own, then the mean weighted by states; C2: Kendall's "
        "tau, for continue of H' alone; C3, C4: share of boxes >= 0, zero ones apart. Intervals: 95%, bootstrap by "
        "request. Judged / possible: states (C1, C2) or boxes (C3, C4)",
    ]
    about = f"kappa={figures['kappa']:g}, {_temperatures(figures)}, n={figures['requests']} requests"
    return Table(
        f"Conditions ({about})", ["condition", "value [95%]", "verdict", "judged / possible", "zero"], rows, notes
    )


def _cascades(figures: dict[str, Any]) -> Table:
    rows = [
        [
            one["cascade"],
            f"{one['differing']:,} of {one['judged']:,} ({percent(one['share'])})",
            one["n1"],
            _figure(one["mass"], one["mass_low"], one["mass_high"]),
            one["n2"],
            f"{one['steps']} steps" if one["converged"] else f"not in {one['steps']} steps",
        ]
        for one in figures["cascades"]
    ]
    notes = ["mass: share of decoding's places that are in such states under the joint policy (stationary, recorded)"]
    if not rows:
        notes = [f"the policy has no cascade with kappa={figures['kappa']:g}: N1 and N2 are undecided"]
    return Table(
        "Joint policy against its cascades",
        ["cascade", "differs in", "N1", "mass [95%]", "N2", "converged"],
        rows,
        notes,
    )


def _speeds(figures: dict[str, Any]) -> Table:
    rates = figures["rates"]
    rows = [
        [name, f"{one['value']:.1f} {bounds(one['low'], one['high'], '.1f')}", _gap(rates["gap_share"].get(name))]
        for name, one in rates["per_second"].items()
    ]
    about = f"kappa={figures['kappa']:g}, {_temperatures(figures)}, n={rates['requests']} held-out requests"
    if rates["own"]:
        which = (
            f"held-out requests (valid {rates['valid']:g}, seed {rates['seed']}): the policy was not solved from them"
        )
    else:
        which = (
            "the policy was solved from other records, and may have learned from some of these requests; a share of "
            f"{rates['valid']:g} is judged"
        )
    notes = [
        which,
        "predicted from the trace and its costs; the windows begin where the trace's did",
        f"policy: D {rates['divergence']:.4f} a token; the gap is closed by its lengths with T=1, as oracles are exact",
        "informed: knows the tokens that would be drafted and both laws; hindsight: also which of them will stand",
    ]
    return Table(
        f"Predicted speed ({about})",
        ["length", "tokens/s [95%]", "gap from best fixed that its lengths close"],
        rows,
        notes,
    )


def _gap(found: dict[str, float] | None) -> str:
    if found is None:
        return ""
    return NONE if math.isnan(found["value"]) else share(found["value"], found["low"], found["high"])


def _figure(value: float, low: float, high: float) -> str:
    return NONE if math.isnan(value) else f"{value:.3f} {bounds(low, high, '.3f')}"
