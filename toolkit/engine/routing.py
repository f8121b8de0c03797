"""What a router and the proposer that asks it (proposers/routed) say to each other.

A router says which draft serves a prompt before anything of it is decoded, and may be asked again within a text. It
sees the past only: under a lossless rule what it says changes how fast a text is written, never its law.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Asked:
    """A row that a draft is wanted for."""

    request: int  # its id
    tokens: np.ndarray  # [L] int64: its text so far, which is its prompt when it begins
    open: tuple[int, ...]  # drafts that can serve it, by their place: all of them when it begins


@dataclass(frozen=True)
class Choice:
    """Which draft serves a row, by its place, and how sure the router is of it; None: it does not say."""

    draft: int
    confidence: float | None = None


@dataclass
class Account:
    """What a router made of a request. Its generation carries it (`Draft.accounts`)."""

    confidence: float | None  # of its first choice
    seconds: float  # its share of what choosing took
    rounds: Counter[str] = field(default_factory=Counter)  # by draft


class Router(Protocol):
    """Which draft serves which prompt."""

    every: int  # rounds after which a row's choice is made anew; 0: once a prompt
    learns: bool  # wants to be told what came of its choices

    def choose(self, asked: Sequence[Asked]) -> list[Choice]:
        """One for each, in their order."""

    def observe(self, draft: int, tokens: int, seconds: float) -> None:
        """A choice has ended: so many tokens were emitted under it, in so much time."""
