r"""The learned router: a sentence embedding and seven numbers of a prompt -> which draft is fastest on it.

The numbers: its length, how often it shows four kinds of text by simple patterns (code, mathematics, chat, facts), and
mean and deviation of its token ids. All are brought to zero mean and unit variance, as the training prompts had them;
one hidden layer (ReLU, dropout) gives a logit a draft. Confidences are softmax(logits / temperature), the temperature
chosen on prompts that were held out.

`config.json` has the drafts in the order of the logits, with their pieces and the digests of their weights; the encoder
with its hash; and the fallback. `router.safetensors` has the network. With a single draft there is neither encoder nor
network.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as serialised
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.files import write_atomic, write_json
from toolkit.nets import _config, _weights

CONFIG, WEIGHTS = "config.json", "router.safetensors"
KIND = "router"
HIDDEN = 256
_AGAIN = "Copy the router again, or train it again."

_LONG = 2048  # characters that count as 1
_HINTS = {  # name -> pattern, hits that count as 1
    "code": (
        r"```|\b(?:def|class|import|return|function|print|void|var|const|struct|elif|lambda)\b"
        r"|\b(?:python|java|javascript|c\+\+|sql|html|css|rust|bash|code|program|algorithm|array|string|list)\b"
        r"|[{};]\s*$|\w\(\w*\)|==|!=|=>|->",
        5,
    ),
    "math": (
        r"\d+\s*[-+*/^=]\s*\d+|\\(?:frac|sqrt|sum|int|boxed|cdot|times|le|ge)\b|\$[^$]+\$"
        r"|\b(?:how many|how much|solve|calculate|compute|equation|sum|total|percent|triangle|integer|probability)\b",
        3,
    ),
    "chat": (
        r"\b(?:you are|your|please|imagine|pretend|write a (?:story|letter|poem|song|note)|role|character|feel|hello"
        r"|thanks|dear|advice|recommend)\b",
        3,
    ),
    "facts": (
        r"\b(?:who|when|where|which|what is|capital|country|century|history|president|invented|discovered|define"
        r"|explain|true or false)\b",
        3,
    ),
}
NUMBERS = ("length", *_HINTS, "id_mean", "id_deviation")


def numbers(text: str, tokens: Sequence[int] | np.ndarray, vocab: int) -> list[float]:
    """NUMBERS of one prompt."""
    hints = [
        min(1.0, len(re.findall(pattern, text, re.IGNORECASE | re.MULTILINE)) / full)
        for pattern, full in _HINTS.values()
    ]
    ids = np.asarray(tokens, dtype=np.float64) / vocab
    return [len(text) / _LONG, *hints, float(ids.mean()), float(ids.std())]


def features(
    embeddings: Tensor, texts: Sequence[str], tokens: Sequence[Sequence[int] | np.ndarray], vocab: int
) -> Tensor:
    """embeddings [n, E] of n prompts -> [n, E + 7] float32."""
    rest = [numbers(text, ids, vocab) for text, ids in zip(texts, tokens, strict=True)]
    return torch.cat([embeddings.float().cpu(), torch.tensor(rest, dtype=torch.float32)], dim=-1)


class RouterNet(nn.Module):
    """[..., F] -> [..., D] logits."""

    mean: Tensor  # [F]
    scale: Tensor  # [F]: one over the standard deviation

    def __init__(self, width: int, drafts: int, hidden: int = HIDDEN, dropout: float = 0.1) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.hidden, self.dropout = nn.Linear(width, hidden), nn.Dropout(dropout)
        self.out = nn.Linear(hidden, drafts)

    def forward(self, rows: Tensor) -> Tensor:
        return self.out(self.dropout(torch.relu(self.hidden((rows - self.mean) * self.scale))))


@dataclass(frozen=True)
class StoredDraft:
    """A draft that a router knows."""

    name: str
    node: dict[str, Any]  # {proposer, length}, every option in it
    weights: str  # digest of its weights; "": it has none


@dataclass(frozen=True)
class StoredEncoder:
    """The sentence encoder whose embeddings a router was trained on."""

    name: str  # as in a recipe
    hash: str  # SHA-256 of its files
    width: int
    characters: int  # of a text's end that are embedded: a question stands behind its instructions
    hash_version: int = 1  # which of its files the hash is of (see toolkit.encoder)


@dataclass(frozen=True)
class Routing:
    """What train/router.py learned."""

    drafts: tuple[StoredDraft, ...]  # in the order of the logits
    fallback: str  # serves where the confidence is below the threshold
    threshold: float
    temperature: float = 1.0  # of the confidences
    vocab: int = 1  # tokens of the target, by which ids are divided
    encoder: StoredEncoder | None = None
    net: RouterNet | None = None

    @torch.no_grad()
    def probabilities(self, rows: Tensor) -> Tensor:
        """[n, F] -> [n, D]."""
        return (self.net.eval()(rows) / self.temperature).softmax(-1)


def save(routing: Routing, directory: Path) -> None:
    drafts = [{"name": one.name, **one.node, "weights": one.weights} for one in routing.drafts]
    config = {
        "kind": KIND,
        "drafts": drafts,
        "fallback": routing.fallback,
        "threshold": routing.threshold,
        "temperature": routing.temperature,
        "vocab": routing.vocab,
        "encoder": None if routing.encoder is None else asdict(routing.encoder),
        "hidden": None if routing.net is None else routing.net.hidden.out_features,
    }
    directory.mkdir(parents=True, exist_ok=True)
    if routing.net is not None:
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in routing.net.state_dict().items()}
        write_atomic(directory / WEIGHTS, serialised(tensors, {"format": "pt"}))
    write_json(directory / CONFIG, config)


def read(directory: Path) -> Routing:
    """The router, on the CPU, in eval mode. UserError names the first fault."""
    path = directory / CONFIG
    config = _config.read(path, KIND, "a router of train/router.py")
    drafts = _drafts(path, config.get("drafts"))
    names = [one.name for one in drafts]
    threshold, temperature = config.get("threshold"), config.get("temperature")
    rules = [
        ("drafts", names, len(set(names)) == len(names), "drafts of different names"),
        ("fallback", config.get("fallback"), config.get("fallback") in names, f"one of {', '.join(names)}"),
        ("threshold", threshold, _number(threshold) and 0 <= threshold <= 1, "a number from 0 to 1"),
        ("temperature", temperature, _number(temperature) and temperature > 0, "a number above 0"),
    ]
    for key, value, right, expected in rules:
        if not right:
            raise UserError(f"{path}: key '{key}' is {value!r}; expected {expected}. {_AGAIN}")
    vocab = config.get("vocab")
    if type(vocab) is not int or vocab < 1:
        raise UserError(f"{path}: key 'vocab' is {vocab!r}; expected how many tokens the target has. {_AGAIN}")
    routing = Routing(tuple(drafts), config["fallback"], float(threshold), float(temperature), vocab)
    if len(drafts) == 1:
        return routing
    encoder, hidden = _encoder(path, config.get("encoder")), config.get("hidden")
    if type(hidden) is not int or not 1 <= hidden <= 2**16:
        raise UserError(f"{path}: key 'hidden' is {hidden!r}; expected the width of the hidden layer. {_AGAIN}")
    sizes = encoder.width + len(NUMBERS), len(drafts), hidden
    net = _weights.filled(lambda: RouterNet(*sizes), directory / WEIGHTS, CONFIG, _AGAIN)
    return replace(routing, encoder=encoder, net=net)


def _drafts(path: Path, rows: Any) -> list[StoredDraft]:
    if not isinstance(rows, list) or not rows:
        raise UserError(f"{path}: key 'drafts' is {str(rows)[:60]}; expected one draft or more. {_AGAIN}")
    for i, row in enumerate(rows):
        kinds = {"name": str, "proposer": dict, "length": dict, "weights": str}
        if not isinstance(row, dict) or {key: type(value) for key, value in row.items()} != kinds:
            raise UserError(f"{path}: key 'drafts.{i}' is {str(row)[:60]}; expected {', '.join(kinds)}. {_AGAIN}")
    return [
        StoredDraft(row["name"], {"proposer": row["proposer"], "length": row["length"]}, row["weights"]) for row in rows
    ]


def _encoder(path: Path, found: Any) -> StoredEncoder:
    kinds = {"name": str, "hash": str, "width": int, "characters": int, "hash_version": int}
    if isinstance(found, dict):
        found = {"hash_version": 1} | found  # the first version wrote none
    if not isinstance(found, dict) or {key: type(value) for key, value in found.items()} != kinds:
        raise UserError(f"{path}: key 'encoder' is {str(found)[:60]}; expected {', '.join(kinds)}. {_AGAIN}")
    return StoredEncoder(**found)


def _number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
