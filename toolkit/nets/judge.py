"""AutoJudge's classifier (Garipov et al. 2025, arXiv 2504.20039): would keeping this drafted token change the answer?

It reads what is known of a token that the target would not have chosen, in this order: the target's state of it, the
draft's state of it (both after the final norm), and five numbers of the two laws that it was judged by (COLUMNS). It
answers with a logit of "important". A token is important unless its logit is below that of the threshold: logits are
compared, never probabilities, as a float32 sigmoid is 1 long before its argument ends.

`judge.safetensors` has the classifier, `config.json` what it reads and which threshold keeps how much of what is
important.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialised
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.files import write_atomic, write_json
from toolkit.nets import _config

CONFIG, WEIGHTS = "config.json", "judge.safetensors"
KIND = "autojudge"
FEATURES = ("target", "draft", "distribution")  # in the order in which they are joined
COLUMNS = ("log_p", "log_q", "entropy_p", "entropy_q", "kl")  # "distribution"; see toolkit.engine.statistics
_AGAIN = "Copy the judge again, or train it again."


class Logistic(nn.Module):
    """A weighted sum of features at zero mean and unit variance."""

    tensors = frozenset({"mean", "scale", "weight", "bias"})

    def __init__(self, mean: Tensor, scale: Tensor, weight: Tensor, bias: Tensor) -> None:
        """[F] each, bias []. scale: the standard deviation."""
        super().__init__()
        for name, tensor in (("mean", mean), ("scale", scale), ("weight", weight), ("bias", bias)):
            self.register_buffer(name, tensor.float())

    def forward(self, features: Tensor) -> Tensor:
        """[..., F] -> [...] logits, float32."""
        return ((features.float() - self.mean) / self.scale) @ self.weight + self.bias

    def faults(self, width: int) -> str:
        """What is wrong with it as a classifier of so many features; "" if nothing is."""
        shapes = {name: list(tensor.shape) for name, tensor in self.named_buffers()}
        wanted = {"mean": [width], "scale": [width], "weight": [width], "bias": []}
        for name, shape in wanted.items():
            if shapes[name] != shape:
                return f"tensor '{name}' has shape {shapes[name]}, and {CONFIG} asks for {shape}"
        return "tensor 'scale' has a value that is not above 0" if (self.scale <= 0).any() else ""


class Boosted(nn.Module):
    """A sum of regression trees. A node's children come after it; a leaf is its own child."""

    tensors = frozenset({"feature", "threshold", "left", "right", "value", "bias"})

    def __init__(
        self, feature: Tensor, threshold: Tensor, left: Tensor, right: Tensor, value: Tensor, bias: Tensor
    ) -> None:
        """[T, M] each, of T trees of at most M nodes: up to its threshold a feature sends to the left. bias []."""
        super().__init__()
        for name, tensor in (("feature", feature), ("left", left), ("right", right)):
            self.register_buffer(name, tensor.long())
        for name, tensor in (("threshold", threshold), ("value", value), ("bias", bias)):
            self.register_buffer(name, tensor.double())
        self.depth = _depth(self.left, self.right)

    def forward(self, features: Tensor) -> Tensor:
        """[..., F] -> [...] logits, float32."""
        rows = features.double().reshape(-1, features.shape[-1])  # [N, F]; thresholds lie between float32 values
        trees = torch.arange(len(self.feature), device=rows.device)
        node = trees.new_zeros(len(rows), len(trees))
        for _ in range(self.depth):
            goes_left = rows.gather(1, self.feature[trees, node]) <= self.threshold[trees, node]
            node = torch.where(goes_left, self.left[trees, node], self.right[trees, node])
        return (self.value[trees, node].sum(1) + self.bias).float().reshape(features.shape[:-1])

    def faults(self, width: int) -> str:
        """As of `Logistic`."""
        shape = list(self.feature.shape)
        for name, tensor in self.named_buffers():
            expected = [] if name == "bias" else shape
            if list(tensor.shape) != expected or len(shape) != 2 or 0 in shape:
                return f"tensor '{name}' has shape {list(tensor.shape)}; expected one number a node of every tree"
        if ((self.feature < 0) | (self.feature >= width)).any():
            return f"tensor 'feature' names features beyond the {width} that {CONFIG} asks for"
        own = torch.arange(shape[1]).expand(shape)
        leaf = (self.left == own) & (self.right == own)
        inner = (self.left > own) & (self.right > own) & (self.left < shape[1]) & (self.right < shape[1])
        return "" if (leaf | inner).all() else "tensors 'left' and 'right' are no trees: a child comes after its node"


def _depth(left: Tensor, right: Tensor) -> int:
    """How many questions the deepest leaf is away. What is no tree is refused later."""
    if left.dim() != 2 or left.shape != right.shape:
        return 0
    level = torch.zeros_like(left)
    for node in range(left.shape[1]):
        for child in (left[:, node : node + 1], right[:, node : node + 1]):
            inner = (child > node) & (child < left.shape[1])
            level.scatter_(1, torch.where(inner, child, node), level[:, node : node + 1] + inner.long())
    return int(level.max()) if level.numel() else 0


NETS = {"logistic": Logistic, "boosting": Boosted}


@dataclass(frozen=True)
class Recall:
    """A threshold that keeps so much of what is important, on prompts that were held out."""

    recall: float  # asked for
    threshold: float  # the largest probability of "important" that reaches it
    logit: float  # of it: what is compared
    reached: float  # share of the important tokens that are found
    accepts: float  # share of the unimportant tokens that are let through


@dataclass(frozen=True)
class Judge:
    """A classifier, what it reads, and its thresholds."""

    net: Logistic | Boosted
    type: str  # a key of NETS
    features: tuple[str, ...]  # some of FEATURES, in their order
    hidden: dict[str, int]  # target, draft -> width of the states that are read
    recall: float  # which row of the table is used where a method does not say
    table: tuple[Recall, ...]

    @property
    def width(self) -> int:
        return _width(self.features, self.hidden)

    @property
    def reads_draft(self) -> bool:
        """Is it of one draft, too?"""
        return self.features != ("target",)

    def threshold(self, recall: float | None, where: str) -> Recall:
        """The one for a recall in the table (None: its own). UserError says which there are."""
        wanted = self.recall if recall is None else recall
        for row in self.table:
            if math.isclose(row.recall, wanted):
                return row
        raise UserError(
            f"{where}: the judge has no threshold for recall {wanted:g}; its table has "
            f"{', '.join(f'{row.recall:g}' for row in self.table)}. Choose one of these, or give a threshold."
        )


def join(parts: dict[str, Tensor], features: Sequence[str]) -> Tensor:
    """Features by name, [..., n] each -> [..., F] float32."""
    return torch.cat([parts[name].float() for name in FEATURES if name in features], dim=-1)


def save(judge: Judge, directory: Path) -> None:
    tensors = {name: tensor.cpu().contiguous() for name, tensor in judge.net.state_dict().items()}
    config = {"kind": KIND, "type": judge.type, "features": list(judge.features), "hidden_size": judge.hidden}
    chosen = {"recall": judge.recall, "threshold": next(r.threshold for r in judge.table if r.recall == judge.recall)}
    directory.mkdir(parents=True, exist_ok=True)
    write_atomic(directory / WEIGHTS, serialised(tensors, {"format": "pt"}))
    write_json(directory / CONFIG, config | chosen | {"table": [vars(row) for row in judge.table]})


def read(directory: Path) -> Judge:
    """The judge, on the CPU. UserError names the first fault."""
    path = directory / CONFIG
    config = _config.read(path, KIND, "a judge, as train/autojudge.py writes it")
    features, hidden = config.get("features"), config.get("hidden_size")
    rules = [
        ("type", config.get("type") in NETS, f"one of {', '.join(NETS)}"),
        (
            "features",
            isinstance(features, list) and features and features == [name for name in FEATURES if name in features],
            f"some of {', '.join(FEATURES)}, in this order",
        ),
        (
            "hidden_size",
            isinstance(hidden, dict)
            and isinstance(features, list)
            and hidden.keys() == {name for name in FEATURES[:2] if name in features}
            and all(type(width) is int and width >= 1 for width in hidden.values()),
            "the width of the states of each model that it reads",
        ),
    ]
    for key, right, expected in rules:
        if not right:
            raise UserError(f"{path}: key '{key}' is {str(config.get(key))[:60]}; expected {expected}. {_AGAIN}")
    table = _table(path, config.get("table"))
    if config.get("recall") not in [row.recall for row in table]:
        raise UserError(f"{path}: key 'recall' is {config.get('recall')!r}; expected one of the table's. {_AGAIN}")
    net = _net(directory / WEIGHTS, config["type"], _width(features, hidden))
    return Judge(net, config["type"], tuple(features), hidden, config["recall"], table)


def _width(features: Sequence[str], hidden: dict[str, int]) -> int:
    return sum(hidden.values()) + len(COLUMNS) * ("distribution" in features)


def _table(path: Path, rows: Any) -> tuple[Recall, ...]:
    keys = Recall.__dataclass_fields__.keys()
    if not isinstance(rows, list) or not rows:
        raise UserError(f"{path}: key 'table' is {str(rows)[:60]}; expected a row a recall. {_AGAIN}")
    for i, row in enumerate(rows):
        numbers = isinstance(row, dict) and row.keys() == keys and all(type(n) in (int, float) for n in row.values())
        if not numbers or not all(math.isfinite(n) for n in row.values()):
            raise UserError(
                f"{path}: key 'table.{i}' is {str(row)[:60]}; expected the numbers {', '.join(keys)}. {_AGAIN}"
            )
    return tuple(Recall(**row) for row in rows)


def _net(path: Path, type: str, width: int) -> Logistic | Boosted:
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error}). {_AGAIN}") from None
    if odd := sorted(tensors.keys() ^ NETS[type].tensors):
        what = "one too many" if odd[0] in tensors else "missing"
        raise UserError(f"{path}: tensor '{odd[0]}' is {what}. {_AGAIN}")
    if damaged := sorted(name for name, tensor in tensors.items() if not tensor.isfinite().all()):
        raise UserError(f"{path}: tensor '{damaged[0]}' has values that are no numbers. {_AGAIN}")
    net = NETS[type](**tensors)
    if fault := net.faults(width):
        raise UserError(f"{path}: {fault}. {_AGAIN}")
    return net
