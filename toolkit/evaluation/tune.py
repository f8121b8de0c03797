"""Choose a prompt-lookup window from known texts and the cost curve, without decoding.

At temperature 0 prompt lookup emits the autoregressive text whatever its window is. So the rounds it would take
can be counted on texts that are known, and its time predicted: a round costs what a forward of its widest row
costs. Tune on other prompts than you report on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.proposers.ngram import lookup

WINDOWS = (1, 2, 3, 4, 5, 6, 8, 12)
SHORTEST = (1, 2, 3, 4, 6)
LONGEST = 6

Text = tuple[Sequence[int], Sequence[int]]  # prompt ids, answer ids


@dataclass(frozen=True)
class Choice:
    """A window, the shortest suffix that may match, and the speedup predicted for them (1 = autoregression)."""

    k: int
    min: int
    max: int
    predicted: float


def best_ngram(batches: Sequence[Sequence[Text]], cost: dict[int, float], shortest: Sequence[int] = SHORTEST) -> Choice:
    """The window and minimum match whose predicted time for the batches, each decoded as one, is least.

    shortest: the minimum matches to try. cost: milliseconds of a forward of 1, 2, ... tokens a row at that batch; a
    width between two is interpolated.
    """
    known = sorted(cost)
    plain = sum(cost[1] * max(len(answer) for _, answer in batch) for batch in batches)
    choices = []
    for minimum in shortest:
        for k in WINDOWS:
            widths = [width for batch in batches for width in _widths(batch, k, minimum)]
            spent = np.interp(widths, known, [cost[width] for width in known]).sum()
            choices.append(Choice(k, minimum, LONGEST, float(plain / spent)))
    return max(choices, key=lambda choice: choice.predicted)


def _widths(batch: Sequence[Text], k: int, shortest: int) -> list[int]:
    """Tokens a row of each round's forward: the widest of the rows that are still alive."""
    rows = [windows(prompt, answer, k, shortest) for prompt, answer in batch]
    return [1 + max(row[i][0] for row in rows if i < len(row)) for i in range(max(map(len, rows)))]


def windows(prompt: Sequence[int], answer: Sequence[int], k: int, shortest: int) -> list[tuple[int, int]]:
    """(proposed, accepted) of every round that prompt lookup takes to emit `answer` greedily."""
    text = np.array([*prompt, *answer], dtype=np.int64)
    at, rounds = len(prompt), []
    while at < len(text):
        proposed = lookup(text[:at], min(k, len(text) - at - 1), shortest, LONGEST)
        agree = proposed == text[at : at + len(proposed)]
        accepted = int(agree.cumprod().sum())
        rounds.append((len(proposed), accepted))
        at += accepted + 1
    return rounds
