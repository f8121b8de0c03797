"""JointAdaSpec policies from recorded traces: `train/jointadaspec.py`.

Nothing is decoded and no model is loaded to learn. One set of traces gives the solutions for every kappa and order;
each is played on held-out requests, beside windows of fixed length and what an oracle would have chosen.
"""

import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from toolkit import config, policy
from toolkit.errors import UserError
from toolkit.policy import KIND, ORDERS, Bins, Policy
from toolkit.training import from_traces, joint_report, joint_solve
from toolkit.training.from_traces import TraceRecipe
from toolkit.training.joint_estimate import Price, Records, Smoothing
from toolkit.training.joint_solve import Settings, Solved
from toolkit.training.traces import Costs, Trace, Windows

RESULTS = Path("results/jointadaspec")


@dataclass
class AxisConfig:
    """Bins of one quantity, nats; what lies beyond the ends falls into the end bins."""

    count: int = 10
    low: float = 0.05
    high: float = 6.0
    scale: str = "log"  # log: bins of equal ratio, most of them where most values are; linear: of equal width


@dataclass
class BinsConfig:
    H: AxisConfig = field(default_factory=AxisConfig)  # entropy of the draft's next law
    K: AxisConfig = field(default_factory=lambda: AxisConfig(low=0.02, high=8.0))  # KL of the last window


@dataclass
class JointAdaSpecRecipe(TraceRecipe):
    method: str = "JointAdaSpec policies solved from recorded traces"
    bins: BinsConfig = field(default_factory=BinsConfig)
    k_max: int = 8  # longest window
    kappas: list[float] = field(default_factory=lambda: [0.0, 0.5, 1.0, 2.0, 5.0])  # tokens that divergence 1 costs
    orders: list[str] = field(default_factory=lambda: list(ORDERS))
    discount: float = 0.99
    c_time: float | str = "auto"  # tokens that a millisecond costs; auto: what the policy itself makes in it
    risk_K: float = 0.0  # noqa: N815  kappa is raised by so much at the upper end of K_prev
    risk_k: float = 0.0  # and by so much at the longest window
    nu_min: int = 5  # records from which a transition is taken as counted
    alpha: float = 1.0  # weight of the neighbouring bins below that
    sweep: list[int] = field(default_factory=lambda: [5, 10, 20])  # bins a dimension, to compare; [] = none


def load(path: Path | str, overrides: list[str]) -> JointAdaSpecRecipe:
    """The recipe with overrides applied, its values checked. UserError says what is wrong with it."""
    recipe = from_traces.load(JointAdaSpecRecipe, path, overrides)
    kappas, orders, c_time = recipe.kappas, recipe.orders, recipe.c_time
    rules = [
        ("k_max", recipe.k_max, 1 <= recipe.k_max <= 64, "1 to 64"),
        (
            "kappas",
            kappas,
            kappas and len({f"{kappa:g}" for kappa in kappas}) == len(kappas),
            "one number or more, that differ in their first six digits",
        ),
        ("kappas", kappas, all(0 <= kappa < math.inf for kappa in kappas), "numbers from 0 on"),
        ("orders", orders, orders and len(set(orders)) == len(orders), "one order or more, each once"),
        ("orders", orders, set(orders) <= set(ORDERS), f"some of {', '.join(ORDERS)}"),
        ("discount", recipe.discount, 0 < recipe.discount < 1, "a number between 0 and 1"),
        (
            "c_time",
            c_time,
            c_time == "auto" or (isinstance(c_time, int | float) and 0 < c_time < math.inf),
            "auto, or a number above 0: where time costs nothing, no window is too long",
        ),
        ("risk_K", recipe.risk_K, 0 <= recipe.risk_K < math.inf, "0 or more"),
        ("risk_k", recipe.risk_k, 0 <= recipe.risk_k < math.inf, "0 or more"),
        ("nu_min", recipe.nu_min, recipe.nu_min >= 1, "1 or more"),
        ("alpha", recipe.alpha, 0 < recipe.alpha < math.inf, "above 0: a state that was never left leads somewhere"),
        ("sweep", recipe.sweep, all(1 <= count <= 100 for count in recipe.sweep), "numbers from 1 to 100"),
    ]
    for name in ("H", "K"):
        axis: AxisConfig = vars(recipe.bins)[name]
        key = f"bins.{name}"
        rules += [
            (f"{key}.count", axis.count, 1 <= axis.count <= 100, "1 to 100; fewer than one bin is none"),
            (f"{key}.scale", axis.scale, axis.scale in ("log", "linear"), "log or linear"),
            (f"{key}.low", axis.low, axis.low >= 0, "0 or more: it is of an entropy or a divergence"),
            (f"{key}.low", axis.low, axis.scale == "linear" or axis.low > 0, "above 0, as scale is log"),
            (
                f"{key}.high",
                axis.high,
                axis.low < axis.high < math.inf,
                f"more than low ({axis.low}), or bins are empty",
            ),
        ]
    config.require(path, rules)
    return recipe


def run(recipe: JointAdaSpecRecipe, command: dict[str, Any]) -> Path:
    """Estimate, solve, play on what was held out, write and try the artifact -> its directory."""
    out, where = Path(recipe.out), command["path"]
    trace = from_traces.begin(recipe, where)
    if trace is None:
        return out
    _fits(recipe, trace, where)
    windows, costs = trace.windows(recipe.temperature), trace.costs(recipe.temperature)
    try:
        learned, solved, report = learn(recipe, windows, costs)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    joint_report.write(
        RESULTS / out.name, {"traces": recipe.traces, "temperature": recipe.temperature} | report, solved
    )
    joint_report.show(report)
    kappa = 1.0 if 1.0 in recipe.kappas else recipe.kappas[0]
    node = {"type": KIND, "policy": ".", "kappa": kappa, "order": recipe.orders[0]}
    from_traces.put(
        recipe,
        command,
        trace,
        kind=KIND,
        pieces={"length": node, "accept": node},
        figures=report,
        fill=lambda directory: policy.save(learned, directory),
    )
    return out


def learn(
    recipe: JointAdaSpecRecipe, windows: Windows, costs: Costs
) -> tuple[Policy, dict[str, Solved], dict[str, Any]]:
    """-> the policy with all its solutions, these with their values by label, and the report."""
    out = from_traces.held_out(windows.request, recipe.valid, recipe.seed)
    train, held = windows.of(~out), windows.of(out)
    bins = binned(recipe.bins, recipe.k_max)
    records = Records(train, bins, costs, Smoothing(recipe.nu_min, recipe.alpha))
    solved = solutions(recipe, records)
    made = {key: one.solution(*key) for key, one in solved.items()}
    learned = Policy(
        bins, tuple(float(t) for t in windows.lenience), tuple(made.values()), records.visits, recipe.temperature
    )
    report = {
        "windows": {"train": len(train), "held_out": len(held)},
        "requests": {"train": len(np.unique(train.request)), "held_out": len(np.unique(held.request))},
        "bins": asdict(bins) | {"states": bins.states},
        "lenience": list(learned.lenience),
        "coverage": joint_report.coverage(records),
        "solutions": [
            {"order": order, "kappa": kappa} | joint_report.judged(one, records, held)
            for (order, kappa), one in solved.items()
        ],
        "beside": joint_report.beside(held, costs, recipe.k_max),
        "sweep": [
            swept(recipe, count, kappa, train, held, costs)
            for count in recipe.sweep
            for kappa in sorted({min(recipe.kappas), max(recipe.kappas)})
        ],
    }
    return learned, {made[key].label: one for key, one in solved.items()}, report


def solutions(recipe: JointAdaSpecRecipe, records: Records) -> dict[tuple[str, float], Solved]:
    """Every order at every kappa."""
    settings, solved = _settings(recipe), {}
    lengths = joint_solve.solve(records, price(recipe, 0.0), settings, joint_solve.exact)  # no kappa changes these
    for kappa in recipe.kappas:
        costs = price(recipe, kappa)
        if "length_then_verif" in recipe.orders:
            solved["length_then_verif", kappa] = joint_solve.length_then_verif(records, costs, settings, lengths)
        if "verif_then_length" in recipe.orders:
            solved["verif_then_length", kappa] = joint_solve.verif_then_length(records, costs, settings)
    if "joint" in recipe.orders:
        joint = {kappa: joint_solve.solve(records, price(recipe, kappa), settings) for kappa in recipe.kappas}
        met = [lengths, *solved.values(), *joint.values()]  # any of these is a joint policy too
        for kappa, own in joint.items():
            best = max(met, key=lambda one, kappa=kappa: one.played.worth(kappa))
            if best.played.worth(kappa) > own.played.worth(kappa):
                limit = joint_solve.longest(best.rule, recipe.k_max)
                own = joint_solve.solve_from(records, price(recipe, kappa), settings, limit, best.rule)
            solved["joint", kappa] = own
    return {(order, kappa): solved[order, kappa] for order in recipe.orders for kappa in recipe.kappas}


def swept(
    recipe: JointAdaSpecRecipe, count: int, kappa: float, train: Windows, held: Windows, costs: Costs
) -> dict[str, Any]:
    """The joint solution with so many bins. At the largest kappa the length does most of the work."""
    sized = BinsConfig(replace(recipe.bins.H, count=count), replace(recipe.bins.K, count=count))
    records = Records(train, binned(sized, recipe.k_max), costs, Smoothing(recipe.nu_min, recipe.alpha))
    solved = joint_solve.solve(records, price(recipe, kappa), _settings(recipe))
    figures = joint_report.judged(solved, records, held) | joint_report.coverage(records)
    return {"bins": count, "states": records.bins.states, "kappa": kappa} | figures


def binned(bins: BinsConfig, k_max: int) -> Bins:
    return Bins(policy.edges(**vars(bins.H)), policy.edges(**vars(bins.K)), k_max)


def price(recipe: JointAdaSpecRecipe, kappa: float) -> Price:
    return Price(kappa, recipe.risk_K, recipe.risk_k, recipe.bins.K.high)


def _settings(recipe: JointAdaSpecRecipe) -> Settings:
    return Settings(recipe.discount, None if recipe.c_time == "auto" else recipe.c_time)


def _fits(recipe: JointAdaSpecRecipe, trace: Trace, where: Path | str) -> None:
    header = trace.header
    if recipe.k_max >= header.limit:
        raise UserError(
            f"{where}: key 'k_max' is {recipe.k_max}, and the trace has windows of {header.limit}; expected less, so "
            "that it is known what follows the longest window. Lower k_max, or collect with a longer trace.window."
        )
    if header.lenience[0] != 1.0:
        raise UserError(
            f"{where}: key 'traces': the trace's lenience grid is {header.lenience}; expected one that begins with 1, "
            "which is the lossless choice. Collect with the usual grid."
        )
