"""AutoJudge's classifier from mined mismatches: `train/autojudge.py`, after its mining.

Nothing is decoded to learn. Held out are prompts. What is stored is the classifier that was fitted on the others, with
the threshold that the held-out ones gave it: fitted again on all, it would not be the one that the threshold is of.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from toolkit import artifact, sources
from toolkit.config import Rule
from toolkit.errors import UserError
from toolkit.files import finite, write_json
from toolkit.nets.judge import COLUMNS, FEATURES, NETS, Judge
from toolkit.training import judge_fit, judge_report
from toolkit.training.judge_fit import Examples, Fitted, Option
from toolkit.training.judge_report import Crossed

RESULTS = Path("results/autojudge")
FEW = 200  # mismatches of the rarer kind below which a user is told that they are few


@dataclass
class JudgeConfig:
    """The classifier."""

    type: str = "logistic"  # or boosting
    features: list[str] = field(default_factory=lambda: ["target"])  # some of: target, draft, distribution
    C: list[float] = field(default_factory=lambda: [10.0**e for e in range(-7, 1)])  # to choose from; of logistic
    recall: float = 0.9  # of important mismatches, at its threshold; one of the table's
    valid: float = 0.1  # share of the prompts that is held out
    folds: int = 10  # parts of the prompts, each judged by classifiers that know nothing of it
    seed: int = 0


def rules(settings: JudgeConfig) -> list[Rule]:
    """For `config.require`."""
    known = [name for name in FEATURES if name in settings.features]
    return [
        ("judge.type", settings.type, settings.type in NETS, f"one of {', '.join(NETS)}"),
        (
            "judge.features",
            settings.features,
            known and sorted(known) == sorted(settings.features),
            f"some of {', '.join(FEATURES)}, each once",
        ),
        ("judge.C", settings.C, settings.C and all(c > 0 for c in settings.C), "one number above 0 or more"),
        (
            "judge.recall",
            settings.recall,
            settings.recall in judge_report.RECALLS,
            f"one of {', '.join(map(str, judge_report.RECALLS))}",
        ),
        ("judge.valid", settings.valid, 0 < settings.valid < 1, "a share between 0 and 1"),
        ("judge.folds", settings.folds, settings.folds >= 2, "2 or more"),
    ]


def columns(settings: JudgeConfig) -> list[str]:
    """What is read of the mined rows."""
    states = [f"{name}_hidden" for name in FEATURES[:2] if name in settings.features]
    return ["prompt", "important", *COLUMNS, *states]


def examples(table: pa.Table, features: list[str]) -> tuple[Examples, dict[str, int]]:
    """Mined rows -> what is learned from, and how wide the states in it are."""
    parts = {name: _states(table, f"{name}_hidden") for name in FEATURES[:2] if name in features}
    widths = {name: states.shape[1] for name, states in parts.items()}
    if "distribution" in features:
        parts["distribution"] = np.stack([_column(table, name) for name in COLUMNS], 1)
    joined = np.concatenate([parts[name].astype(np.float32) for name in FEATURES if name in features], 1)
    if not np.isfinite(joined).all():
        raise UserError("what was mined has features that are no numbers: mine it again.")
    _, prompt = np.unique(_column(table, "prompt").astype(str), return_inverse=True)
    return Examples(joined, _column(table, "important").astype(bool), prompt), widths


@dataclass(frozen=True)
class Trial:
    """One set of features, fitted and judged."""

    data: Examples
    train: Examples
    valid: Examples
    fitted: Fitted
    score: np.ndarray  # logits of `valid`
    crossed: Crossed  # of `data`

    def aucs(self, seed: int) -> dict[str, dict[str, float]]:
        """On the held-out prompts, and crossed on all."""
        return {
            "held_out": judge_report.interval(self.valid, self.score, seed),
            "crossed": judge_report.interval(self.data, self.crossed.chosen, seed, fold=self.crossed.fold),
        }


def trial(data: Examples, tried: Sequence[Option], settings: JudgeConfig) -> Trial:
    train, valid = judge_fit.split(data, settings.valid, settings.seed)
    judge_fit.both_kinds(valid, "held out")
    fitted = judge_fit.fit(train, valid, tried, settings.seed)
    score = judge_fit.logits(fitted.net, valid.features)
    own = fitted.options[fitted.best]
    crossed = judge_report.crossed(data, tried, own, settings.folds, settings.valid, settings.seed)
    return Trial(data, train, valid, fitted, score, crossed)


def learn(table: pa.Table, settings: JudgeConfig) -> tuple[Judge, dict[str, Any], dict[str, Any]]:
    """Mined rows -> the judge, the report, and curves for its picture."""
    known, seed = [name for name in FEATURES if name in settings.features], settings.seed
    data, hidden = examples(table, known)
    rarer = int(min(data.important.sum(), (~data.important).sum()))
    if rarer < FEW:
        sources.say(
            f"only {rarer} mismatches are of the rarer kind; from {FEW} on a judge can be told from chance: mine more"
        )
    found = trial(data, judge_fit.options(settings.type, settings.C), settings)
    # The control: what the two laws alone say
    bare = trial(examples(table, ["distribution"])[0], judge_fit.options("logistic", settings.C), settings)
    fitted, valid, crossed = found.fitted, found.valid, found.crossed
    recalls = judge_report.table(found.score, valid.important)
    chosen = next(row for row in recalls if row.recall == settings.recall)
    report = {
        "type": settings.type,
        "features": known,
        "recall": settings.recall,
        "threshold": chosen.threshold,
        "option": fitted.options[fitted.best],
        "grid": [option | {"auc": auc} for option, auc in zip(fitted.options, fitted.aucs, strict=True)],
        "counts": {"train": _counts(found.train), "held_out": _counts(valid), "all": _counts(data)},
        "auc": found.aucs(seed),
        "controls": {
            "chance": 0.5,
            "distribution": bare.aucs(seed),
            # The same prompts are in the same folds
            "less_distribution": judge_report.interval(data, crossed.chosen, seed, bare.crossed.chosen, crossed.fold),
            "option_by_lot": {
                "held_out": float(np.mean(fitted.aucs)),  # its expectation
                "crossed": judge_report.interval(data, crossed.lot, seed, fold=crossed.fold),
            },
        },
        "table": [dataclasses.asdict(row) for row in recalls],
        "crossed_recall": _recall(data, crossed.own, chosen.logit),
        "thresholds": judge_report.thresholds(crossed.own, data.important),
        "calibration": {
            "held_out": judge_report.calibration(found.score, valid.important),
            "crossed": judge_report.calibration(crossed.own, data.important),
        },
    }
    curves = {
        " + ".join(known): (crossed.own, data.important),
        "distribution alone": (bare.crossed.own, bare.data.important),
    }
    judge = Judge(fitted.net, settings.type, tuple(known), hidden, settings.recall, tuple(recalls))
    return judge, finite(report), curves


def write(directory: Path, report: dict[str, Any], curves: dict[str, Any]) -> None:
    """report.json and the pictures."""
    with artifact.writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        judge_report.draw(directory, report, curves)
        write_json(directory / "report.json", report)
    crossed, bare = report["auc"]["crossed"], report["controls"]["distribution"]["crossed"]
    sources.say(
        f"AUC on prompts not learned from: {_shown(crossed)} (distribution features {_shown(bare)}; chance 0.500); "
        f"threshold {report['threshold']:.4f} for recall {report['recall']:g}; see {directory}"
    )


def _recall(data: Examples, score: np.ndarray, limit: float) -> float:
    """Of the artifact's threshold, applied to classifiers that were fitted without the prompt: does it hold?"""
    return float((score[data.important] >= limit).mean())


def _counts(data: Examples) -> dict[str, int]:
    prompts = len(np.unique(data.prompt))
    return {"prompts": prompts, "mismatches": len(data), "important": int(data.important.sum())}


def _column(table: pa.Table, name: str) -> np.ndarray:
    if name not in table.schema.names:
        raise UserError(f"what was mined has no column '{name}': mine it again with this version of draftsmith.")
    return table[name].combine_chunks().to_numpy(zero_copy_only=False)


def _states(table: pa.Table, name: str) -> np.ndarray:
    """[n, H] float16."""
    if name not in table.schema.names:
        model = name.removesuffix("_hidden")
        raise UserError(
            f"what was mined has no states of the {model}: mine it with mine.hidden=[{model}], or leave '{model}' out "
            "of judge.features."
        )
    column = table[name].combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)


def _shown(auc: dict[str, float]) -> str:
    return f"{auc['value']:.3f} [{auc['low']:.3f}, {auc['high']:.3f}]"
