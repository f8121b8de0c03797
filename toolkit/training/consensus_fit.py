"""What the consensus gate learns from, the fit, and what a gate does on positions whose labels are known.

Along a recorded answer the counts that the gate reads go as they would under a gate that is always right: a token that
neither draft names is the target's, and both counts begin again behind it. (The public code counts on across such a
token in training, and not in decoding.)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from toolkit.engine.runner import Runner
from toolkit.errors import UserError
from toolkit.evaluation.progress import Bar
from toolkit.nets import gate as gates
from toolkit.nets.gate import D1, D2, TARGET, GateSettings, LearnedGate, RuleGate
from toolkit.training import features
from toolkit.training.texts import Text

NAMES = ("d1", "d2", "fallback")  # of labels and choices
_NEVER = -1e4  # bias of a label that did not occur


@dataclass(frozen=True)
class Examples:
    """Positions of recorded answers."""

    seen: Tensor  # [N, F] float32: the gate's features
    label: np.ndarray  # [N] int64: D1 where it names the target's token, else D2 where that does, else TARGET
    hits: np.ndarray  # [N, 2] bool: does D1, does D2?
    rule: np.ndarray  # [N] int64: what the rule would choose

    def __len__(self) -> int:
        return len(self.label)

    def labels(self) -> dict[str, int]:
        return {name: int((self.label == one).sum()) for one, name in enumerate(NAMES)}


def examples(d1: Runner, d2: Runner, found: Sequence[Text], settings: GateSettings, batch: int) -> Examples:
    """Every position of every answer, teacher-forced; one forward of each draft a text."""
    ordered = sorted(found, key=lambda text: len(text.tokens))
    parts = []
    with Bar("positions", len(ordered)) as bar:
        for start in range(0, len(ordered), batch):
            chunk = ordered[start : start + batch]
            for text, law1, law2 in zip(chunk, _laws(d1, chunk), _laws(d2, chunk), strict=True):
                parts.append(_of_text(text, law1, law2, settings))
            bar.advance(len(chunk), "texts")
    seen, label, hits, rule = zip(*parts, strict=True)
    return Examples(torch.cat(seen), np.concatenate(label), np.concatenate(hits), np.concatenate(rule))


@torch.inference_mode()
def _laws(runner: Runner, chunk: Sequence[Text]) -> list[Tensor]:
    """Of each text, [n, V] over target ids: the draft's log-law of every token of its answer."""
    rows = features.tokens(chunk, runner.device)
    cache = runner.cache(*rows.shape)
    logits = runner.forward(cache, rows, np.zeros(len(chunk), dtype=np.int64)).logits  # [B, L, V or D]
    found = []
    for text, scores in zip(chunk, logits, strict=True):
        law = scores[len(text.prompt) - 1 : len(text.tokens) - 1].float().log_softmax(-1)
        found.append(law if runner.vocabulary is None else runner.vocabulary.spread(law))
    return found


Part = tuple[Tensor, np.ndarray, np.ndarray, np.ndarray]


@torch.inference_mode()
def _of_text(text: Text, law1: Tensor, law2: Tensor, settings: GateSettings) -> Part:
    answer = np.array(text.answer)
    named = np.stack([law.argmax(-1).cpu().numpy() for law in (law1, law2)], axis=1)  # [n, 2]
    hits = named == answer[:, None]
    label = np.where(hits[:, 0], D1, np.where(hits[:, 1], D2, TARGET))
    agreed = named[:, 0] == named[:, 1]
    rule = RuleGate()
    both = gates.ensemble(law1, law2, *_on(law1, counts(label, agreed)), rule.top, rule.block)
    chosen = rule.choose(both).cpu().numpy()
    if settings.features == "d1_only":
        own = _on(law1, counts(label, label == D1))
        seen = gates.d1_only(law1, *own, settings.top, settings.block)
    else:
        seen = gates.ensemble(law1, law2, *_on(law1, counts(label, agreed)), settings.top, settings.block)
    return seen.cpu(), label, hits, chosen


def counts(label: np.ndarray, agreed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[n], [n] bool -> the gate's streak and since [n] before each token, if it is taken as its label says."""
    streak, since = np.zeros(len(label), dtype=np.int64), np.zeros(len(label), dtype=np.int64)
    for i in range(1, len(label)):
        if label[i - 1] != TARGET:
            since[i] = since[i - 1] + 1
            streak[i] = streak[i - 1] + 1 if agreed[i - 1] else 0
    return streak, since


def _on(law: Tensor, arrays: Sequence[np.ndarray]) -> list[Tensor]:
    return [torch.from_numpy(array).to(law.device) for array in arrays]


def fit(train: Examples, settings: GateSettings, strength: float) -> LearnedGate:
    """Every label weighs the same, however often it occurs; one that never does is never chosen."""
    known = np.unique(train.label)
    if len(known) < 2:
        name = NAMES[known[0]] if len(known) else "nothing"
        raise UserError(f"all {len(train)} positions have one label ({name}): there is nothing to learn.")
    scaler = StandardScaler().fit(train.seen.double().numpy())
    model = LogisticRegression(C=strength, max_iter=500, class_weight="balanced")
    model.fit(scaler.transform(train.seen.double().numpy()), train.label)
    weight, bias = np.zeros((3, train.seen.shape[1])), np.full(3, _NEVER)
    if len(known) == 2:  # scikit-learn has one row then, of the second label against the first
        bias[known[0]] = 0.0
        weight[known[1]], bias[known[1]] = model.coef_[0], model.intercept_[0]
    else:
        weight[known], bias[known] = model.coef_, model.intercept_
    gate = LearnedGate(settings)
    numbers = {"mean": scaler.mean_, "scale": 1 / scaler.scale_, "weight": weight, "bias": bias}
    gate.load_state_dict({name: torch.from_numpy(value).float() for name, value in numbers.items()})
    return gate


def quality(gate: LearnedGate, train: Examples, valid: Examples) -> dict[str, Any]:
    """The likeliest label on held-out positions; `chance`: the label that is commonest in training, always."""
    found = gate(valid.seen).argmax(-1).numpy()
    commonest = np.full(len(valid), np.bincount(train.label, minlength=3).argmax())
    confusion = [[int(((valid.label == one) & (found == other)).sum()) for other in range(3)] for one in range(3)]
    return _agreement(valid, found) | {"chance": _agreement(valid, commonest), "confusion": confusion}


def _agreement(valid: Examples, found: np.ndarray) -> dict[str, float]:
    macro = f1_score(valid.label, found, average="macro", zero_division=0)
    return {"val_accuracy": float(accuracy_score(valid.label, found)), "val_macro_f1": float(macro)}


def taken(gate: LearnedGate, valid: Examples, threshold: float, *, escalation: bool = True) -> dict[str, float | None]:
    """What a gate with this threshold takes of the held-out positions, and how much of it is right."""
    own = gate.settings.fallback_threshold
    gate.use(threshold)
    choice = gate.choose(valid.seen).numpy()
    gate.use(own)
    return _shares(valid, choice, escalation)


def taken_by_rule(valid: Examples) -> dict[str, float | None]:
    """The same of the rule."""
    return _shares(valid, valid.rule, True)


def _shares(valid: Examples, choice: np.ndarray, escalation: bool) -> dict[str, float | None]:
    """Shares of the positions; `right`: of the tokens that are a draft's, how many are the target's own, too."""
    if not escalation:
        choice = np.where(choice == D2, TARGET, choice)
    drafted = choice != TARGET
    hit = np.where(choice == D2, valid.hits[:, 1], valid.hits[:, 0])
    shares = {name: float((choice == one).mean()) for one, name in enumerate(NAMES)}
    return shares | {"right": float(hit[drafted].mean()) if drafted.any() else None}
