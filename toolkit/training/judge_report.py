"""What a judge is worth on prompts that it has not seen: AUC with intervals by prompt, beside controls; thresholds.

Two readings. `held_out` is of the artifact itself, on the prompts that chose its C and its threshold: a little too
good, and few. `crossed` is of the recipe: every prompt is judged by a classifier that was fitted, and whose C was
chosen, without it; an AUC compares those whom the same classifier judged, and what is read off logits themselves
(thresholds, calibration) has the artifact's own C. Controls go through the same: the distribution features alone, and a
C drawn by lot.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from toolkit.evaluation import plots
from toolkit.nets.judge import Recall
from toolkit.training.judge_fit import Examples, Option, auc, fit, logits, split

RECALLS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99)
THRESHOLDS = (0.0, 0.005, 0.01, 0.03, 0.05, 0.09, 0.14, 0.23, 0.5, 1.0)
_RESAMPLES = 1000
_BINS = 10


@dataclass(frozen=True)
class Crossed:
    """Logits [n] by classifiers that know nothing of the prompt; those of one fold are by the same ones."""

    fold: np.ndarray  # [n]
    chosen: np.ndarray  # the option chosen in each fold anew
    lot: np.ndarray  # drawn by lot
    own: np.ndarray  # the artifact's: on one scale, as it is the same in all folds


def crossed(data: Examples, tried: Sequence[Option], own: Option, folds: int, valid: float, seed: int) -> Crossed:
    random = np.random.default_rng(seed)
    prompts = random.permutation(np.unique(data.prompt))
    found = Crossed(np.zeros(len(data), int), *(np.zeros(len(data), np.float32) for _ in range(3)))
    for number, part in enumerate(np.array_split(prompts, min(folds, len(prompts)))):
        out = np.isin(data.prompt, part)
        fitted = fit(*split(data.of(~out), valid, seed + number), tried, seed)
        nets = fitted.net, fitted.nets[random.integers(len(tried))], fitted.nets[tried.index(own)]
        found.fold[out] = number
        for scores, net in zip((found.chosen, found.lot, found.own), nets, strict=True):
            scores[out] = logits(net, data.features[out])
    return found


def interval(
    data: Examples,
    score: np.ndarray,
    seed: int,
    other: np.ndarray | None = None,
    fold: np.ndarray | None = None,
) -> dict[str, float]:
    """AUC (less that of another score), with the 95% bootstrap interval over prompts. fold: see `judge_fit.auc`."""
    _, place = np.unique(data.prompt, return_inverse=True)
    count = place.max() + 1
    random = np.random.default_rng(seed)

    def of(weight: np.ndarray | None) -> float:
        mine = auc(score, data.important, weight, fold)
        return mine if other is None else mine - auc(other, data.important, weight, fold)

    drawn = [
        of(np.bincount(random.integers(count, size=count), minlength=count)[place].astype(np.float64))
        for _ in range(_RESAMPLES)
    ]
    low, high = np.nanpercentile(drawn, [2.5, 97.5])  # NaN: a resample with one class only
    return {"value": of(None), "low": float(low), "high": float(high)}


def table(score: np.ndarray, important: np.ndarray, recalls: Sequence[float] = RECALLS) -> list[Recall]:
    """Of every recall the largest threshold that reaches it. score: logits [n]."""
    ranked = np.sort(score[important])[::-1]
    rows = []
    for recall in recalls:
        limit = float(ranked[math.ceil(recall * len(ranked) - 1e-9) - 1])
        found = score >= limit
        reached, accepts = float(found[important].mean()), float((~found[~important]).mean())
        rows.append(Recall(recall, float(expit(limit)), limit, reached, accepts))
    return rows


def thresholds(score: np.ndarray, important: np.ndarray) -> list[dict[str, float]]:
    """Of fixed thresholds: what each finds of the important tokens, lets through of the others, and of all."""
    p, rows = expit(score.astype(np.float64)), []
    for threshold in THRESHOLDS:
        found = (p >= threshold) & (threshold < 1)
        rows.append(
            {
                "threshold": threshold,
                "recall": float(found[important].mean()),
                "accepts": float((~found[~important]).mean()),
                "accepts_all": float((~found).mean()),
            }
        )
    return rows


def calibration(score: np.ndarray, important: np.ndarray) -> list[dict[str, float]]:
    """A row a bin of P(important) that has mismatches."""
    p = expit(score.astype(np.float64))
    place = np.minimum((p * _BINS).astype(int), _BINS - 1)
    return [
        {
            "from": at / _BINS,
            "count": int(inside.sum()),
            "predicted": float(p[inside].mean()),
            "observed": float(important[inside].mean()),
        }
        for at in range(_BINS)
        if (inside := place == at).any()
    ]


def draw(directory: Path, report: dict[str, Any], curves: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """calibration.png and recall.png. curves: name -> (score, important)."""
    _draw_calibration(directory / "calibration.png", report)
    _draw_recall(directory / "recall.png", report, curves)


def _draw_calibration(path: Path, report: dict[str, Any]) -> None:
    figure, axes = plots.plt.subplots(figsize=(5.5, 5), layout="constrained")
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    for name, label in (("held_out", "held-out prompts"), ("crossed", "all prompts, crossed")):
        rows = report["calibration"][name]
        count = sum(row["count"] for row in rows)
        line = [(row["predicted"], row["observed"]) for row in rows]
        axes.plot(*zip(*line, strict=True), marker="o", label=f"{label} (n={count:,})")
    for row in report["calibration"]["crossed"]:
        place = row["predicted"], row["observed"]
        axes.annotate(f"{row['count']:,}", place, fontsize=7, xytext=(4, -8), textcoords="offset points")
    axes.set_xlabel("P(important), mean of a bin")
    axes.set_ylabel("important, share of a bin")
    axes.legend(fontsize=7)
    plots.save(figure, path)


def _draw_recall(path: Path, report: dict[str, Any], curves: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    figure, axes = plots.plt.subplots(figsize=(6.5, 4.5), layout="constrained")
    for name, (score, important) in curves.items():
        order = np.argsort(score)
        passes = np.cumsum(~important[order]) / (~important).sum()
        lost = np.cumsum(important[order]) / important.sum()
        axes.plot(np.r_[0, passes], 1 - np.r_[0, lost], label=name)
    axes.plot([0, 1], [1, 0], color="grey", linewidth=0.8, label="chance")
    axes.axhline(report["recall"], color="grey", linestyle=":", label=f"recall {report['recall']:g}")
    axes.set_xlabel("unimportant mismatches let through, share")
    axes.set_ylabel("important mismatches found, share")
    axes.set_title(f"all prompts, crossed (n={len(important):,} mismatches)", fontsize=9)
    axes.legend(fontsize=7)
    plots.save(figure, path)
