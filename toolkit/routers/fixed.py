"""Always the same draft: the control that every router is compared with."""

from collections.abc import Sequence
from dataclasses import dataclass

from toolkit.engine.routing import Asked, Choice
from toolkit.hub import Models
from toolkit.routers import _names


@dataclass
class Config:
    draft: str  # its name


class Always:
    every = 0
    learns = False

    def __init__(self, draft: int) -> None:
        self.draft = draft

    def choose(self, asked: Sequence[Asked]) -> list[Choice]:
        return [Choice(self.draft)] * len(asked)

    def observe(self, draft: int, tokens: int, seconds: float) -> None:
        pass


def build(config: Config, models: Models, drafts: Sequence[str]) -> Always:
    return Always(_names.place(config.draft, drafts, "router fixed"))
