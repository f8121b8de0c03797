"""An acceptance head for SpecDec++ from recorded traces: `train/specdecpp.py`.

Nothing is decoded: states and labels are in the trace, and a threshold is worth the tokens per second that replaying
the held-out windows with measured costs predicts. Held out are requests, not positions: those of one text are alike.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from toolkit import artifact, config, sources
from toolkit.errors import UserError
from toolkit.files import write_json
from toolkit.nets import heads
from toolkit.nets.heads import AcceptanceHead, HeadSettings
from toolkit.training import from_traces, processes, specdecpp_fit, specdecpp_report
from toolkit.training.from_traces import TraceRecipe
from toolkit.training.specdecpp_fit import HeadFitConfig
from toolkit.training.traces import Costs, Windows

RESULTS = Path("results/specdecpp")


@dataclass
class SpecDecPPRecipe(TraceRecipe):
    method: str = "SpecDec++ acceptance head on recorded traces"
    blocks: int = 3  # residual layers of the head
    max: int = 8  # longest window that may be chosen for it, with the threshold; the trace's are longer
    # To choose from; many near 1, as the weights of the loss keep f low. 1 never stops: a fixed window
    thresholds: list[float] = field(
        default_factory=lambda: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 1.0]
    )
    train: HeadFitConfig = field(default_factory=HeadFitConfig)


def load(path: Path | str, overrides: list[str]) -> SpecDecPPRecipe:
    """The recipe with overrides applied, its values checked. UserError says what is wrong with it."""
    recipe = from_traces.load(SpecDecPPRecipe, path, overrides)
    train = recipe.train
    rules = [
        ("blocks", recipe.blocks, 1 <= recipe.blocks <= 64, "1 to 64"),
        ("max", recipe.max, recipe.max >= 2, "2 or more: shorter windows leave nothing to decide"),
        ("thresholds", recipe.thresholds, recipe.thresholds, "one number or more"),
        ("thresholds", recipe.thresholds, all(0 <= h <= 1 for h in recipe.thresholds), "numbers from 0 to 1"),
        ("train.epochs", train.epochs, train.epochs >= 1, "1 or more"),
        ("train.lr", train.lr, train.lr > 0, "above 0"),
        ("train.warmup", train.warmup, 0 <= train.warmup < 1, "from 0, below 1"),
        ("train.batch", train.batch, train.batch >= 1, "1 or more"),
        ("train.weight_decay", train.weight_decay, train.weight_decay >= 0, "0 or more"),
        ("train.reject", train.reject, train.reject > 0, "above 0"),
        ("train.accept", train.accept, train.accept > 0, "above 0"),
    ]
    config.require(path, rules)
    return recipe


def run(recipe: SpecDecPPRecipe, command: dict[str, Any]) -> Path:
    """Train, choose the threshold, write and try the artifact -> its directory."""
    out, where = Path(recipe.out), command["path"]
    trace = from_traces.begin(recipe, where)
    if trace is None:
        return out
    if recipe.max >= trace.header.limit:
        raise UserError(
            f"{where}: key 'max' is {recipe.max}, and the trace has windows of {trace.header.limit}; expected less, so "
            "that it is known what a longer window would have brought. Lower max, or collect with a longer "
            "trace.window."
        )
    windows, costs = trace.windows(recipe.temperature, hidden=True), trace.costs(recipe.temperature)
    head, report = learn(recipe, windows, costs, processes.joined().device)
    _write(RESULTS / out.name, {"traces": recipe.traces, "temperature": recipe.temperature} | report)
    settings = HeadSettings(report["threshold"], report["max"], recipe.temperature)
    from_traces.put(
        recipe,
        command,
        trace,
        kind=heads.KIND,
        pieces={"length": {"type": heads.KIND, "head": "."}},
        figures={key: value for key, value in report.items() if key != "rates"},
        fill=lambda directory: heads.save(head, directory, settings),
    )
    return out


def learn(
    recipe: SpecDecPPRecipe, windows: Windows, costs: Costs, device: torch.device
) -> tuple[AcceptanceHead, dict[str, Any]]:
    """Windows with the draft's states -> the head on the CPU, and the report: figures, rates, the threshold.

    Half of the requests that are not trained on choose the epoch, the threshold and the longest window; what is
    reported is of the other half.
    """
    out = from_traces.held_out(windows.request, recipe.valid, recipe.seed)
    chosen_by = out.copy()
    chosen_by[out] = from_traces.held_out(windows.request[out], 0.5, recipe.seed)
    reported = out & ~chosen_by
    train, valid, test = (specdecpp_fit.examples(windows, rows) for rows in (~out, chosen_by, reported))
    for name, data in (("to train on", train), ("to choose by", valid), ("held out", test)):
        if not len(data):
            raise UserError(f"no drafted token {name} has another drafted behind it: collect more, or longer windows.")
        if not data.hidden.isfinite().all():
            raise UserError("the trace's hidden states have values that are no numbers: collect it again.")
    sources.say(f"{len(train)} positions to train on, {len(test)} held out; rejected there: {_rejected(test.label)}")
    head = specdecpp_fit.made(train, recipe.train, recipe.blocks, recipe.seed).to(device)
    curve = specdecpp_fit.fit(head, train, valid, recipe.train, recipe.seed)

    def rates(rows: np.ndarray, f: np.ndarray) -> dict[str, list[dict[str, Any]]]:
        own = windows.of(rows)
        return specdecpp_report.rates(own, kept(own, f), costs, recipe.thresholds, recipe.max)

    choice = rates(chosen_by, specdecpp_fit.probabilities(head, valid.hidden))["thresholds"]
    best = max(choice, key=lambda row: row["per_second"])
    f, label = specdecpp_fit.probabilities(head, test.hidden), test.label.numpy()
    report = {
        "threshold": best["threshold"],
        "max": best["max"],
        "positions": {"train": len(train), "choice": len(valid), "held_out": len(test)},
        "requests": {
            name: len(np.unique(windows.request[rows]))
            for name, rows in (("train", ~out), ("choice", chosen_by), ("held_out", reported))
        },
        "held_out_loss": curve,
        "head": specdecpp_report.quality(f, label, recipe.train),
        "chance": specdecpp_report.chance(train.label, label, recipe.train),
        "most_auc": specdecpp_report.auc(label, label),  # of whoever knows the labels: they are chances themselves
        "calibration": specdecpp_report.calibration(f, label, recipe.train),
        "rates": rates(reported, f),
    }
    return head.cpu(), report


def kept(windows: Windows, f: np.ndarray) -> np.ndarray:
    """f [N] of the windows' examples -> [n,K]: at place d the product over the tokens before it, 1 at place 0."""
    chances = np.ones(windows.valid.shape)
    chances[:, 1:][windows.valid[:, 1:]] = f
    return chances.cumprod(1)


def _write(directory: Path, report: dict[str, Any]) -> None:
    with artifact.writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        specdecpp_report.draw(directory, report)
        write_json(directory / "report.json", report)
    head, chance = report["head"], report["chance"]
    sources.say(
        f"held out: loss {head['loss']:.4f} (a constant {chance['loss']:.4f}), AUC {_shown(head['auc'])}, binary KL "
        f"{head['kl_unweighted']:.4f} (a constant {chance['kl_unweighted']:.4f}); see {directory}"
    )
    rates = report["rates"]
    fixed = max(rates["fixed"], key=lambda row: row["per_second"])
    made = (report["threshold"], report["max"])
    chosen = next(row for row in rates["thresholds"] if (row["threshold"], row["max"]) == made)
    sources.say(
        f"predicted tokens/s: {chosen['per_second']:.1f} at threshold {chosen['threshold']:g} and max {chosen['max']}, "
        f"{fixed['per_second']:.1f} of the best fixed window (k={fixed['k']})"
    )


def _rejected(label: torch.Tensor) -> str:
    return f"{float(1 - label.mean()):.1%}"


def _shown(auc: float | None) -> str:
    return "undefined (one class only)" if auc is None else f"{auc:.3f}"
