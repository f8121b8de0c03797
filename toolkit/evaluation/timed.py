"""Which methods the clock is for: `speed.methods` is all, front, or a list of names.

`front` lets the quality set choose, so that a large grid need not be timed whole. Always timed are the baseline and
lossless methods, whose quality is inherited and whose tau is not known before, and the controls that accept everything.
A lossy method is timed where it is on the front of its proposer's methods, or beside one that is in a grid. The front
is of accuracy, tau, and drafted tokens an emitted one: whoever is no better in any of the three needs as many forwards
of target and draft for answers no better, whatever a forward costs on the machine at hand. With tau alone long windows
would always win. Methods of different proposers are not compared, as a drafted token does not cost them the same.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from toolkit import registry
from toolkit.errors import UserError
from toolkit.evaluation.grid import Cell
from toolkit.evaluation.pareto import dominates
from toolkit.evaluation.records import Record
from toolkit.evaluation.score import BASELINE

ALL, FRONT = "all", "front"


@dataclass(frozen=True)
class Candidate:
    """What has to be known of a method to decide whether it is timed."""

    name: str
    config: dict[str, Any]  # its pieces
    lossless: bool
    cell: Cell


def check(chosen: Any, cells: Mapping[str, Cell], where: Path | str) -> None:
    """UserError where `speed.methods` names nobody. A grid's name stands for all of its cells."""
    if chosen in (ALL, FRONT):
        return
    known = [*cells, *dict.fromkeys(cell.grid for cell in cells.values() if cell.grid)]
    if not isinstance(chosen, list) or not chosen:
        raise UserError(f"{where}: key 'speed.methods' is {chosen!r}; expected all, front, or a list of methods.")
    for name in chosen:
        if name not in known:
            raise UserError(
                f"{where}: key 'speed.methods' has {name!r}, which is no method of the recipe."
                f"{registry.nearest(str(name), known)} Its methods: {registry.listed(known)}."
            )


def accepts_everything(config: Mapping[str, Any]) -> bool:
    """Is this the control, under which the target refuses nothing?"""
    accept = config["accept"]
    return {"type": "topk", "k": "all"}.items() <= accept.items() or (
        {"type": "autojudge", "threshold": 1}.items() <= accept.items()
    )


def untimed(chosen: Any, candidates: Sequence[Candidate], rows: Sequence[Record]) -> dict[str, str]:
    """Who is left out -> why. `rows`: for `front` the whole quality set of every lossy method."""
    if chosen == ALL:
        return {}
    if chosen == FRONT:
        return _dominated(candidates, rows)
    named = {one.name for one in candidates if {one.name, one.cell.grid} & {BASELINE, *chosen}}
    return {one.name: "not named in speed.methods" for one in candidates if one.name not in named}


def _dominated(candidates: Sequence[Candidate], rows: Sequence[Record]) -> dict[str, str]:
    """Lossy methods that another one of the same proposer dominates, and that are beside none which is timed for it."""
    lossy = [one for one in candidates if not one.lossless and not accepts_everything(one.config)]
    figures = {one.name: _figures(one.name, rows) for one in lossy}
    groups: dict[str, list[Candidate]] = {}
    for one in lossy:
        if figures[one.name] is not None:  # of whom nothing is known, the clock may tell something
            groups.setdefault(json.dumps(one.config["proposer"], sort_keys=True), []).append(one)
    left_out = {}
    for group in groups.values():
        beaten = dominates(np.array([figures[one.name] for one in group]))  # [n, n]: by whom, who
        ahead = [one for one, by in zip(group, beaten.T, strict=True) if not by.any()]
        for one, by in zip(group, beaten.T, strict=True):
            if by.any() and not any(one.cell.beside(other.cell) for other in ahead):
                winner = next(other for other, wins in zip(group, by, strict=True) if wins and other in ahead)
                left_out[one.name] = _reason(one.name, winner.name, figures)
    return left_out


def _figures(name: str, rows: Sequence[Record]) -> tuple[float, float, float] | None:
    """Accuracy, tau, and drafted tokens an emitted one, less of which is more; None where they are not known."""
    ok = [row for row in rows if row.set == "quality" and row.method == name and row.ok]
    judged = [row for row in ok if row.correct is not None]
    tokens, rounds = sum(row.n_tokens for row in ok), sum(row.rounds for row in ok)
    if not judged or not tokens or not rounds:
        return None
    accuracy = sum(bool(row.correct) for row in judged) / len(judged)
    return accuracy, tokens / rounds, -sum(row.proposed for row in ok) / tokens


def _reason(name: str, winner: str, figures: Mapping[str, tuple[float, float, float]]) -> str:
    """In the words of the table's note."""
    mine, theirs = (
        f"accuracy {accuracy:.1%}, tau {tau:.2f}, {-drafted:.2f} drafted a token"
        for accuracy, tau, drafted in (figures[name], figures[winner])
    )
    return f"in the quality set {winner} is at least as good ({theirs}; here {mine}), and it is beside nobody ahead"
