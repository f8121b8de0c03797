"""Every draft on every domain: tau, and on each domain its own draft against each other one, prompt by prompt.

A study whose axis has a domain a value, and whose methods are drafts under those names: `matrix: {axis: domain}`. Other
methods, a general draft say, are in the table and are compared with each domain's own draft too.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from toolkit.errors import UserError
from toolkit.evaluation.compare import Side, compare, tau_of
from toolkit.evaluation.score import BASELINE
from toolkit.evaluation.stats import Interval, verdict
from toolkit.evaluation.study_table import Cell
from toolkit.evaluation.table import Table
from toolkit.export.figures import NONE, bounds, number


@dataclass
class MatrixConfig:
    axis: str  # its values name the domains, and the drafts for them


def check(matrix: MatrixConfig, axes: dict[str, Any], methods: Sequence[str], where: str) -> None:
    """UserError where a domain has no draft of its own. methods: those of one cell."""
    if matrix.axis not in axes:
        raise UserError(f"{where}: key 'matrix.axis' is '{matrix.axis}'; expected an axis of {', '.join(axes)}.")
    if missing := [value for value in axes[matrix.axis] if value not in methods]:
        raise UserError(
            f"{where}: key 'matrix': no method is called '{missing[0]}', as a value of axis '{matrix.axis}' is; there "
            f"are {', '.join(methods)}."
        )


def of(matrix: MatrixConfig, axes: Sequence[str], cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """An entry a cell and draft: its tau, and how much higher that of the domain's own draft is, with bounds."""
    place, found = axes.index(matrix.axis), []
    for cell in cells:
        domain = cell.values[place]
        sides = {name: Side.of(cell.rows, name) for name in cell.methods() if name != BASELINE}
        for name, side in sides.items():
            lead = None if name == domain else compare(side, sides[domain]).tau
            found.append(
                {
                    "cell": list(cell.values),
                    "draft": name,
                    "n": len(side.speed),
                    "tau": _plain(tau_of(side)),
                    "own_lead": _plain(lead),
                    "verdict": None if name == domain else verdict(lead, 0.0),
                }
            )
    return found


def table(matrix: MatrixConfig, axes: Sequence[str], entries: Sequence[dict[str, Any]]) -> Table:
    """A row a draft, a column a cell: tau, and in brackets what the domain's own draft is ahead by."""
    cells = list(dict.fromkeys(tuple(entry["cell"]) for entry in entries))
    drafts = list(dict.fromkeys(entry["draft"] for entry in entries))
    place = axes.index(matrix.axis)
    by_both = {(entry["draft"], tuple(entry["cell"])): entry for entry in entries}
    rows = [[draft, *(_shown(by_both.get((draft, cell)), draft == cell[place]) for cell in cells)] for draft in drafts]
    counts = "–".join(str(n) for n in sorted({min(e["n"] for e in entries), max(e["n"] for e in entries)}))
    note = (
        "tau [95%], then how much higher that of the domain's own draft is on the same prompts [95%, paired "
        "bootstrap]; * where that interval excludes 0"
    )
    return Table(f"Tau of each draft on each domain (n={counts})", ["draft", *map(" ".join, cells)], rows, [note])


def _shown(entry: dict[str, Any] | None, own: bool) -> str:
    if entry is None or entry["tau"] is None:
        return NONE
    said = f"{number(entry['tau']['value'], 2)} {_bounds(entry['tau'], '.2f')}"
    if own:
        return f"{said} (own)"
    lead = entry["own_lead"]
    if lead is None:
        return said
    mark = "" if entry["verdict"] == "no difference shown" else "*"
    return f"{said}; {lead['value']:+.2f} {_bounds(lead, '+.2f')}{mark}"


def _bounds(interval: dict[str, float], form: str) -> str:
    return bounds(interval["low"], interval["high"], form, 1)


def _plain(interval: Interval | None) -> dict[str, float] | None:
    return None if interval is None else asdict(interval)
