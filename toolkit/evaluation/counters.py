"""What lossy rules counted as they decoded: a table for each kind of counter, of the methods that have it.

A counter's name begins with its kind, as in judge_total and gate_d1. Counts are sums over rows, with their share where
one counter is a part of others.
"""

from collections.abc import Sequence

from toolkit.evaluation.score import Quality, Speed
from toolkit.evaluation.table import Table
from toolkit.export.figures import NONE, percent

_GATED = ("gate_d1", "gate_d2", "gate_fallback")  # all tokens of a gated text
_WHOLES = {  # a counter -> the sum that it is a part of
    "judge_accepted": ("judge_total",),
    "judge_rejected": ("judge_total",),
    **dict.fromkeys(("gate_d1", "gate_d2", "gate_fallback", "gate_d1_calls", "gate_d2_calls"), _GATED),
    "gate_changed": ("gate_seen",),
}
_MEANS = {
    "judge": "mismatches that were judged, up to each round's first that did not stand, and what became of them; "
    "accepted: let through as unimportant",
    "gate": "whose the tokens are: of either draft, or of the target (fallback), where alone it is called; seen: "
    "drafted tokens that it read then; changed: those of them that it would have chosen otherwise (they stand); "
    "d1_calls, d2_calls: forwards of either draft, and how many a token",
}


def tables(summaries: Sequence[Speed] | Sequence[Quality], of: str) -> list[Table]:
    """`of`: the set, in words."""
    kinds = sorted({_kind(name) for one in summaries for name in one.counters})
    return [_table(kind, summaries, of) for kind in kinds]


def _table(kind: str, summaries: Sequence[Speed] | Sequence[Quality], of: str) -> Table:
    counted = [one for one in summaries if any(_kind(name) == kind for name in one.counters)]
    names = list(dict.fromkeys(name for one in counted for name in one.counters if _kind(name) == kind))
    rows = [[one.method, *(_cell(name, one.counters) for name in names)] for one in counted]
    columns = ["method", *(name.removeprefix(f"{kind}_") for name in names)]
    return Table(f"Counted: {kind} ({of})", columns, rows, [_MEANS[kind]] if kind in _MEANS else [])


def _cell(name: str, counters: dict[str, int]) -> str:
    if name not in counters:
        return NONE
    whole = sum(counters.get(part, 0) for part in _WHOLES.get(name, ()))
    return f"{counters[name]:,}" + (f" ({percent(counters[name] / whole)})" if whole else "")


def _kind(name: str) -> str:
    return name.partition("_")[0]
