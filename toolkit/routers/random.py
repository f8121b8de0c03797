"""A draft by lot, the same for the same request and seed: the control that knows nothing of prompts."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from toolkit.engine.routing import Asked, Choice
from toolkit.hub import Models


@dataclass
class Config:
    seed: int = 0


class ByLot:
    every = 0
    learns = False

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def choose(self, asked: Sequence[Asked]) -> list[Choice]:
        return [Choice(one.open[self._lot(one.request) % len(one.open)]) for one in asked]

    def observe(self, draft: int, tokens: int, seconds: float) -> None:
        pass

    def _lot(self, request: int) -> int:
        """Of the request alone, so that neither batch mates nor the order of prompts change it."""
        return int.from_bytes(hashlib.sha256(f"{self.seed} {request}".encode()).digest()[:8])


def build(config: Config, models: Models, drafts: Sequence[str]) -> ByLot:
    return ByLot(config.seed)
