"""A JointAdaSpec policy as a file: for each state of a round, whether to draft on, and how leniently to verify it.

A state is (H, K_prev, k): the entropy of the draft's law for the next token, the mean KL(q||p) of the last round's
verified places, both in nats and binned, and the place in the window. One file holds several solutions of the same
decision problem: what a unit of divergence costs (kappa), and what was solved first (order). `policy.safetensors` has
two tables a solution, `config.json` what they mean. What decoding does not read (values, rewards) is not in here.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load as parsed
from safetensors.numpy import save as serialised
from torch import Tensor

from toolkit.errors import UserError
from toolkit.files import write_atomic, write_json

KIND = "jointadaspec"  # of its artifact
CONFIG, TABLES = "config.json", "policy.safetensors"
VERSION = 1
ORDERS = ("joint", "length_then_verif", "verif_then_length")
STOP = 0  # action 1 + t: draft one more token and verify it with the lenience of index t
_AGAIN = "Copy the policy again, or train it again."


@dataclass(frozen=True)
class Bins:
    """How a state becomes a number. Edges lie between bins: values beyond them fall into the end bins."""

    entropy: tuple[float, ...]  # ascending, one fewer than bins of H
    divergence: tuple[float, ...]  # the same for K_prev
    k_max: int  # depths are 0..k_max

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.entropy) + 1, len(self.divergence) + 1, self.k_max + 1

    @property
    def states(self) -> int:
        return int(np.prod(self.shape))

    def edges(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Of H and of K_prev, float32, for `encode`."""
        return torch.tensor(self.entropy, device=device), torch.tensor(self.divergence, device=device)

    def encode(self, edges: tuple[Tensor, Tensor], entropy: Tensor, divergence: Tensor, depth: Tensor | int) -> Tensor:
        """Index of the state, int64; the arguments broadcast. The one definition, for training and for decoding."""
        h, kl = (torch.bucketize(x, edge, right=True) for x, edge in zip((entropy, divergence), edges, strict=True))
        _, n_kl, n_depth = self.shape
        return (h * n_kl + kl) * n_depth + depth


@dataclass(frozen=True)
class Solution:
    """What to do in every state."""

    order: str  # one of ORDERS
    kappa: float  # tokens that one unit of divergence costs
    c_time: float  # tokens that a millisecond costs
    action: np.ndarray  # [n_states] int8: STOP, or 1 + index of T
    lenient: np.ndarray  # [n_states] int8: index of the T of a token that is drafted here, chosen or not

    @property
    def label(self) -> str:
        return f"{self.order} kappa={self.kappa:g}"

    @property
    def exact(self) -> bool:
        """Does it keep the target's law, T = 1 wherever it drafts?"""
        return not (self.action > 1).any()

    def limit(self, bins: Bins) -> int:
        """The longest window it drafts: the first place at which every state stops, so that nobody is asked there."""
        return int((self.action == STOP).reshape(bins.shape).all((0, 1)).argmax())


@dataclass(frozen=True)
class Policy:
    bins: Bins
    lenience: tuple[float, ...]  # the grid of T, beginning with 1
    solutions: tuple[Solution, ...]
    visits: np.ndarray  # [n_states, 2] int32: records behind stop and behind continue
    temperature: float  # of the traces
    digest: str = ""  # of the tables as they were read

    def note(self, solution: Solution) -> str:
        """The name under which the length policy tells the acceptance rule the T of each token."""
        return f"T of {self.digest[:12]} {solution.label}"

    def solution(self, order: str, kappa: float, where: str) -> Solution:
        """UserError where there is none: says which there are. `where` opens the message."""
        for one in self.solutions:
            if one.order == order and one.kappa == kappa:
                return one
        raise UserError(
            f"{where}: the policy has no solution with order '{order}' and kappa {kappa:g}; it has "
            f"{', '.join(one.label for one in self.solutions)}. Choose one of these, or train it with the kappa."
        )


def save(policy: Policy, directory: Path) -> None:
    tables = {"visits": policy.visits.astype(np.int32)}
    for name in ("action", "lenient"):
        tables[name] = np.stack([vars(one)[name] for one in policy.solutions]).astype(np.int8)
    directory.mkdir(parents=True, exist_ok=True)
    write_atomic(directory / TABLES, serialised(tables))
    described = [{"order": one.order, "kappa": one.kappa, "c_time": one.c_time} for one in policy.solutions]
    config = {"policy_version": VERSION, "temperature": policy.temperature}
    config |= {"bins": asdict(policy.bins), "lenience": policy.lenience}
    write_json(directory / CONFIG, config | {"solutions": described})


def read(directory: Path) -> Policy:
    """UserError names the first fault."""
    path = directory / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as JSON ({error}). Expected a JointAdaSpec policy. {_AGAIN}") from None
    if not isinstance(config, dict) or config.get("policy_version") != VERSION:
        found = repr(config.get("policy_version")) if isinstance(config, dict) else "missing"
        raise UserError(
            f"{path}: key 'policy_version' is {found}; this version of draftsmith reads {VERSION}. Use the version "
            "that wrote the policy, or train it again."
        )
    bins = _bins(path, config.get("bins"))
    lenience = _ascending(path, "lenience", config.get("lenience"))
    if not lenience or lenience[0] != 1.0:
        raise UserError(f"{path}: key 'lenience' is {list(lenience)}; expected values of T that begin with 1. {_AGAIN}")
    temperature = config.get("temperature")
    if type(temperature) not in (int, float) or temperature < 0:
        raise UserError(f"{path}: key 'temperature' is {temperature!r}; expected a number from 0 on. {_AGAIN}")
    described = _solutions(path, config.get("solutions"))
    tables, digest = _tables(directory / TABLES, bins, len(described), len(lenience))
    solutions = [
        Solution(**one, action=tables["action"][i], lenient=tables["lenient"][i]) for i, one in enumerate(described)
    ]
    return Policy(bins, lenience, tuple(solutions), tables["visits"], float(temperature), digest)


def _bins(path: Path, node: Any) -> Bins:
    if not isinstance(node, dict) or node.keys() != {"entropy", "divergence", "k_max"}:
        raise UserError(f"{path}: key 'bins' is {str(node)[:60]}; expected entropy, divergence and k_max. {_AGAIN}")
    if type(node["k_max"]) is not int or node["k_max"] < 1:
        raise UserError(f"{path}: key 'bins.k_max' is {node['k_max']!r}; expected 1 or more. {_AGAIN}")
    edges = {name: _ascending(path, f"bins.{name}", node[name]) for name in ("entropy", "divergence")}
    return Bins(**edges, k_max=node["k_max"])


def _ascending(path: Path, key: str, values: Any) -> tuple[float, ...]:
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        raise UserError(f"{path}: key '{key}' is {str(values)[:60]}; expected a list of numbers. {_AGAIN}")
    if not all(low < high for low, high in zip(values, values[1:], strict=False)):
        raise UserError(f"{path}: key '{key}' is {str(values)[:60]}; expected ascending numbers. {_AGAIN}")
    return tuple(float(value) for value in values)


def _solutions(path: Path, node: Any) -> list[dict[str, Any]]:
    if not isinstance(node, list) or not node:
        raise UserError(f"{path}: key 'solutions' is {str(node)[:60]}; expected one solution or more. {_AGAIN}")
    for i, one in enumerate(node):
        if (
            not isinstance(one, dict)
            or one.keys() != {"order", "kappa", "c_time"}
            or one["order"] not in ORDERS
            or not all(type(one[key]) in (int, float) for key in ("kappa", "c_time"))
        ):
            raise UserError(
                f"{path}: key 'solutions.{i}' is {str(one)[:80]}; expected an order of {', '.join(ORDERS)}, and "
                f"numbers kappa and c_time. {_AGAIN}"
            )
    return node


def _tables(path: Path, bins: Bins, solutions: int, grid: int) -> tuple[dict[str, np.ndarray], str]:
    try:
        content = path.read_bytes()
        tables = parsed(content)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error}). {_AGAIN}") from None
    shape = (solutions, bins.states)
    expected = {"action": (np.int8, shape, grid), "lenient": (np.int8, shape, grid - 1)}
    expected |= {"visits": (np.int32, (bins.states, 2), np.iinfo(np.int32).max)}
    if odd := sorted(tables.keys() ^ expected.keys()):
        raise UserError(f"{path}: tensor '{odd[0]}' is missing or unknown; expected {', '.join(expected)}. {_AGAIN}")
    for name, (kind, size, most) in expected.items():
        table = tables[name]
        if table.dtype != kind or table.shape != size:
            raise UserError(
                f"{path}: tensor '{name}' is {table.dtype} of shape {list(table.shape)}; {CONFIG} asks for "
                f"{np.dtype(kind)} of shape {list(size)}. The two files are not of one policy. {_AGAIN}"
            )
        if table.min() < 0 or table.max() > most:
            raise UserError(f"{path}: tensor '{name}' has values outside of 0 to {most}. {_AGAIN}")
    if (tables["action"].reshape(solutions, *bins.shape)[..., -1] != STOP).any():
        raise UserError(f"{path}: tensor 'action' drafts on at place {bins.k_max}, the longest window. {_AGAIN}")
    return tables, hashlib.sha256(content).hexdigest()


def edges(count: int, low: float, high: float, scale: str) -> tuple[float, ...]:
    """The edges between `count` bins of equal width, or of equal ratio, on [low, high]."""
    spaced: Sequence[float] = (np.geomspace if scale == "log" else np.linspace)(low, high, count + 1)
    return tuple(float(edge) for edge in spaced[1:-1])
