"""Fitting AutoJudge's classifier with scikit-learn, and taking it over into tensors.

Logistic regression over standardised features, or gradient-boosted trees. What is to be chosen (C; depth and learning
rate) is chosen by the AUC on held-out prompts. Prompts are held out, not mismatches: those of one text are alike, and
its states nearly so.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from toolkit.errors import UserError
from toolkit.nets.judge import Boosted, Logistic
from toolkit.training import from_traces

Option = dict[str, float]  # {C} or {depth, rate}
BOOSTING: list[Option] = [{"depth": depth, "rate": rate} for depth in (3, 5) for rate in (0.05, 0.1)]
_ITERATIONS, _TREES, _LEAF = 500, 300, 20
_ROWS = 65536  # rows judged at once


@dataclass(frozen=True)
class Examples:
    """Mismatches."""

    features: np.ndarray  # [n, F] float32
    important: np.ndarray  # [n] bool
    prompt: np.ndarray  # [n] which prompt's, as numbers

    def __len__(self) -> int:
        return len(self.important)

    def of(self, rows: np.ndarray) -> "Examples":
        """rows: [n] bool."""
        return Examples(self.features[rows], self.important[rows], self.prompt[rows])


@dataclass(frozen=True)
class Fitted:
    """A classifier for each option, and how they do on the prompts that choose between them."""

    nets: list[Logistic | Boosted]
    options: list[Option]
    aucs: list[float]
    best: int

    @property
    def net(self) -> Logistic | Boosted:
        return self.nets[self.best]


def options(type: str, grid: Sequence[float]) -> list[Option]:
    """What is tried. grid: of C."""
    return [{"C": c} for c in grid] if type == "logistic" else BOOSTING


def fit(train: Examples, valid: Examples, tried: Sequence[Option], seed: int) -> Fitted:
    """Fit every option, choose by the AUC on `valid`: of equals the first, and where it has one kind only."""
    both_kinds(train, "to train on")
    nets = [_logistic(train, option["C"]) if "C" in option else _boosted(train, option, seed) for option in tried]
    aucs = [auc(logits(net, valid.features), valid.important) for net in nets]
    return Fitted(nets, list(tried), aucs, int(np.argmax(np.nan_to_num(aucs, nan=0.5))))


def both_kinds(data: Examples, name: str) -> None:
    """UserError where nothing is important, or everything."""
    if not 0 < data.important.sum() < len(data):
        raise UserError(
            f"of the {len(data)} mismatches {name}, {data.important.sum()} are important; both kinds are needed. "
            "Mine more prompts, or hold out more of them (judge.valid)."
        )


def split(data: Examples, share: float, seed: int) -> tuple[Examples, Examples]:
    """-> those to train on, those of held-out prompts."""
    out = from_traces.held_out(data.prompt, share, seed)
    return data.of(~out), data.of(out)


@torch.no_grad()
def logits(net: Logistic | Boosted, features: np.ndarray) -> np.ndarray:
    """[n, F] -> [n] float32: what the decoding loop compares."""
    return torch.cat([net(part) for part in torch.from_numpy(features).split(_ROWS)]).numpy()


def auc(
    score: np.ndarray, label: np.ndarray, weight: np.ndarray | None = None, fold: np.ndarray | None = None
) -> float:
    """How often an important token has the higher score; ties count half. NaN where a class is missing.

    fold: [n] which classifier judged each. Only those of one fold are compared: logits of two are on two scales.
    """
    weight = np.ones(len(label)) if weight is None else weight
    fold = np.zeros(len(label), int) if fold is None else fold
    found = [_wins(score[part], label[part], weight[part]) for part in (fold == one for one in np.unique(fold))]
    wins, pairs = map(sum, zip(*found, strict=True))
    return float(wins / pairs) if pairs else float("nan")


def _wins(score: np.ndarray, label: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """-> pairs in which the important one has the higher score, and all pairs of both kinds."""
    _, place = np.unique(score, return_inverse=True)
    positive, negative = np.bincount(place, weight * label), np.bincount(place, weight * ~label)
    return (positive * (negative.cumsum() - negative / 2)).sum(), positive.sum() * negative.sum()


def _logistic(data: Examples, c: float) -> Logistic:
    scaler = StandardScaler()
    features = scaler.fit_transform(data.features.astype(np.float64))
    model = LogisticRegression(C=c, max_iter=_ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the limit is the paper's; what it gives is judged as is
        model.fit(features, data.important)
    return Logistic(*map(torch.from_numpy, (scaler.mean_, scaler.scale_, model.coef_[0])), _number(model.intercept_[0]))


def _boosted(data: Examples, option: Option, seed: int) -> Boosted:
    model = HistGradientBoostingClassifier(
        max_depth=int(option["depth"]),
        learning_rate=option["rate"],
        max_iter=_TREES,
        min_samples_leaf=_LEAF,
        early_stopping=False,
        random_state=seed,
    )
    return trees(model.fit(data.features, data.important))


def trees(model: HistGradientBoostingClassifier) -> Boosted:
    """The fitted trees as tensors. scikit-learn has no public way to them; a test compares what they say."""
    found = [tree.nodes for [tree] in model._predictors]
    shape = len(found), max(len(nodes) for nodes in found)
    own = np.broadcast_to(np.arange(shape[1]), shape)
    tables = {"feature": np.zeros(shape, np.int64), "left": own.copy(), "right": own.copy()}
    tables |= {"threshold": np.zeros(shape), "value": np.zeros(shape)}
    for t, nodes in enumerate(found):
        inner = np.flatnonzero(nodes["is_leaf"] == 0)
        tables["feature"][t, inner] = nodes["feature_idx"][inner]
        tables["threshold"][t, inner] = nodes["num_threshold"][inner]
        for side in ("left", "right"):
            tables[side][t, inner] = nodes[side][inner]
        tables["value"][t, : len(nodes)] = nodes["value"]
    bias = _number(np.asarray(model._baseline_prediction).item())
    return Boosted(**{name: torch.from_numpy(table) for name, table in tables.items()}, bias=bias)


def _number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)
