"""How good an acceptance head is on held-out positions, and what each threshold would earn: figures and two pictures.

The head was trained with a rejected token weighing more than an accepted one, so f is not the chance of acceptance but
lower; `unweighted` undoes the weights. The threshold is of f as it is: the weights and it are chosen together.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import rel_entr
from sklearn.metrics import roc_auc_score
from torch import Tensor

from toolkit.evaluation import plots
from toolkit.training import oracle, replay
from toolkit.training.specdecpp_fit import HeadFitConfig, constant
from toolkit.training.traces import Costs, Windows

_BINS = 10
_SURE = 1e-6  # no probability is taken to be nearer to 0 or 1


def unweighted(f: np.ndarray, settings: HeadFitConfig) -> np.ndarray:
    """The chance of acceptance that f stands for: the loss is least where f's odds are those by accept/reject."""
    accept, reject = settings.reject * f, settings.accept * (1 - f)
    return accept / (accept + reject)


def quality(f: np.ndarray, label: np.ndarray, settings: HeadFitConfig) -> dict[str, float | None]:
    """Of probabilities f [N] against labels [N].

    auc: how often a token that is accepted has a higher f than one that is rejected, where a token of label a is
    accepted with weight a and rejected with weight 1-a. kl: of the label's two-way law from f's, nats, a mean.
    """
    f = np.clip(f.astype(np.float64), _SURE, 1 - _SURE)
    plain = np.clip(unweighted(f, settings), _SURE, 1 - _SURE)
    accept, reject = settings.accept * label, settings.reject * (1 - label)
    loss = -(accept * np.log(f) + reject * np.log(1 - f)).sum() / (accept + reject).sum()
    return {"loss": float(loss), "auc": auc(f, label), "kl": _kl(label, f), "kl_unweighted": _kl(label, plain)}


def chance(train: Tensor, label: np.ndarray, settings: HeadFitConfig) -> dict[str, float | None]:
    """The same of the best constant: what a head must beat. train: the labels that it was trained on."""
    return quality(np.full(label.shape, constant(train, settings)), label, settings)


def auc(score: np.ndarray, label: np.ndarray) -> float | None:
    """None where all are accepted, or all rejected."""
    if not 0 < label.mean() < 1:
        return None
    classes = np.repeat([1, 0], len(label))
    weight = np.concatenate([label, 1 - label]).astype(np.float64)
    return float(roc_auc_score(classes, np.tile(score, 2), sample_weight=weight))


def _kl(label: np.ndarray, f: np.ndarray) -> float:
    return float((rel_entr(label, f) + rel_entr(1 - label, 1 - f)).mean())


def calibration(f: np.ndarray, label: np.ndarray, settings: HeadFitConfig) -> list[dict[str, float | int]]:
    """A row a bin of f that has positions: mean f, mean of f unweighted, mean label, how many."""
    place = np.minimum((f * _BINS).astype(int), _BINS - 1)
    plain = unweighted(f, settings)
    return [
        {
            "from": at / _BINS,
            "count": int(inside.sum()),
            "f": float(f[inside].mean()),
            "unweighted": float(plain[inside].mean()),
            "label": float(label[inside].mean()),
        }
        for at in range(_BINS)
        if (inside := place == at).any()
    ]


def stops(kept: np.ndarray, threshold: float, limit: int) -> np.ndarray:
    """Where each window ends [n]. kept [n,K]: at place d, the product of f over the tokens before it."""
    over = 1 - kept[:, 1:limit] > threshold
    return np.concatenate([over, np.ones((len(kept), 1), bool)], axis=1).argmax(1) + 1


def rates(
    windows: Windows, kept: np.ndarray, costs: Costs, thresholds: Sequence[float], most: int
) -> dict[str, list[dict[str, Any]]]:
    """Predicted tokens/s over the same windows: of every threshold, of fixed lengths, and of who knows more.

    Each threshold with each longest window up to `most`: at that length nobody looks, and no draft step is lost. Costs
    are of drafting and verification; what the head itself takes is not in them.
    """
    tokens, drafted = replay.expected(windows, 0), replay.drafted(windows)
    rows = []
    for limit in range(2, most + 1):
        for h in thresholds:
            ends = stops(kept, h, limit)
            rate = replay.played(windows, tokens, ends, costs, looked=True, limit=limit)
            mean = float(np.minimum(ends, drafted).mean())
            rows.append({"threshold": h, "max": limit, "drafted": mean} | asdict(rate))
    known = {"informed": oracle.informed(windows, costs), "hindsight": oracle.hindsight(windows, costs)}
    return {
        "thresholds": rows,
        "fixed": [{"k": k, **asdict(oracle.fixed(windows, costs, k))} for k in range(1, most + 1)],
        "oracles": [{"name": name, **asdict(best.rate)} for name, best in known.items()],  # see toolkit.training.oracle
    }


def draw(directory: Path, report: dict[str, Any]) -> None:
    """calibration.png and thresholds.png."""
    _draw_calibration(directory / "calibration.png", report)
    _draw_thresholds(directory / "thresholds.png", report)


def _draw_calibration(path: Path, report: dict[str, Any]) -> None:
    rows = report["calibration"]
    figure, axes = plots.plt.subplots(figsize=(5.5, 5), layout="constrained")
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    for key, name in (("f", "f, as trained with weights"), ("unweighted", "f, weights undone")):
        axes.plot([row[key] for row in rows], [row["label"] for row in rows], marker="o", label=name)
    for row in rows:
        axes.annotate(
            f"{row['count']:,}", (row["f"], row["label"]), fontsize=7, xytext=(4, -8), textcoords="offset points"
        )
    axes.set_xlabel("predicted chance of acceptance, mean of a bin")
    axes.set_ylabel(f"min(1, p/q), mean of a bin (held out, n={report['positions']['held_out']:,})")
    axes.set_title(f"AUC {report['head']['auc']:.3f}" if report["head"]["auc"] is not None else "one class only")
    axes.legend(fontsize=7)
    plots.save(figure, path)


def _draw_thresholds(path: Path, report: dict[str, Any]) -> None:
    rows, fixed = report["rates"]["thresholds"], report["rates"]["fixed"]
    figure, axes = plots.plt.subplots(figsize=(7, 4.5), layout="constrained")
    for limit in sorted({row["max"] for row in rows}):
        line = [(row["threshold"], row["per_second"]) for row in rows if row["max"] == limit]
        axes.plot(*zip(*line, strict=True), marker="o", markersize=3, label=f"SpecDec++, max {limit}")
    best = max(fixed, key=lambda row: row["per_second"])
    axes.axhline(best["per_second"], color="black", label=f"best fixed window, k={best['k']}")
    for row, style in zip(report["rates"]["oracles"], ("--", ":"), strict=True):
        axes.axhline(row["per_second"], color="grey", linestyle=style, label=f"oracle, {row['name']}")
    axes.axvline(report["threshold"], color="black", linewidth=0.8)
    axes.set_xlabel("threshold on 1 - prod f")
    axes.set_ylabel(f"predicted tokens/s at batch 1 (held out, n={rows[0]['windows']:,} windows)")
    axes.legend(fontsize=7)
    plots.save(figure, path)
