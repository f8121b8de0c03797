"""Random learned length policies: a head for SpecDec++, a table for JointAdaSpec, and the table's decisions looked up.

Nothing is learned here: the suite wants policies that depend strongly on all that they may read, so that windows of
every length occur. Seeds of heads were searched for offline and are fixed; test_limits asserts what they are for.
"""

import functools

import numpy as np
import torch
from torch import nn

from toolkit.nets.heads import AcceptanceHead
from toolkit.policy import STOP, Bins, Policy, Solution

RISK = 0.5  # SpecDec++ ends its window above it
SEEDS = {
    "far": {"llama": 20, "qwen3": 21, "gpt2": 33},
    "near": {"llama": 11, "qwen3": 92, "gpt2": 57},
    "eagle3": {"llama": 44, "qwen3": 79, "gpt2": 32},
}
SEEDS["trimmed"] = SEEDS["far"]  # one model, with fewer tokens

EXACT, LOSSY = 100.0, 0.0  # kappas: the same stops, with T = 1 everywhere and with T by state
K_MAX = 4
STOPS = 0.35  # share of states
_BINS = Bins(entropy=(0.7, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5), divergence=(0.02, 0.06, 0.2, 0.6, 1.0, 1.6), k_max=K_MAX)
_LENIENCE = (1.0, 1.5, 4.0)
LAGS = len(_BINS.divergence) + 1  # bins of K_prev


@functools.cache
def acceptance_head(draft: str, family: str, width: int) -> AcceptanceHead:
    """draft: a key of SEEDS."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEEDS[draft][family])
        head = AcceptanceHead(width, blocks=2)
        for layer in (*head.blocks, head.out):
            nn.init.normal_(layer.weight, std=width**-0.5)
            nn.init.zeros_(layer.bias)
        head.out.bias.data[1] = 1.0
    return head.eval()


@functools.cache
def policy() -> Policy:
    """Every (H, K_prev, k) for itself: stop, or the T of a token that is drafted there."""
    rng = np.random.default_rng(0)
    goes = rng.random(_BINS.shape) >= STOPS
    goes[:, 0, 0] = True  # a request's first window
    goes[..., K_MAX] = False
    lenient = rng.integers(0, len(_LENIENCE), _BINS.shape)
    solutions = []
    for kappa, index in ((EXACT, np.zeros_like(lenient)), (LOSSY, lenient)):
        action = np.where(goes, 1 + index, STOP)
        solutions.append(
            Solution("joint", kappa, 0.01, action.reshape(-1).astype(np.int8), index.reshape(-1).astype(np.int8))
        )
    return Policy(_BINS, _LENIENCE, tuple(solutions), np.zeros((_BINS.states, 2), dtype=np.int32), 1.0)


def solution(kappa: float) -> Solution:
    return policy().solution("joint", kappa, "tests/decode")


def lag(k_prev: np.ndarray) -> np.ndarray:
    """K_prev in nats -> its bin."""
    return np.searchsorted(_BINS.divergence, k_prev, side="right")


def lenience(entropy: np.ndarray, bins: np.ndarray | int, place: int, kappa: float) -> np.ndarray:
    """entropy [n] of the draft's raw law, bins of K_prev -> [n]: T of a token that is drafted here, 0: none is."""
    h = np.searchsorted(_BINS.entropy, entropy, side="right")
    action = solution(kappa).action.reshape(_BINS.shape)[h, bins, place]
    return np.array((0.0, *_LENIENCE))[action]
