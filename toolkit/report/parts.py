"""What several sections of a report share: columns, names of files, and intervals said in words."""

import hashlib
import math
import re
from collections.abc import Iterable, Sequence

from toolkit.evaluation.records import Record
from toolkit.evaluation.score import pairs
from toolkit.evaluation.stats import FEWEST_BLOCKS, NO_DIFFERENCE, Interval, ratio, verdict
from toolkit.report.page import Column
from toolkit.report.runs import Group

METHOD = Column("method", "method")
EXACT = Column("exact", "exact", help="its output law is the target's own")
_LONGEST = 80  # letters of a group in a file's name


def stem(section: str, group: Group, groups: Sequence[Group]) -> str:
    """Of a file's name: with the group's where there are several."""
    if len(groups) == 1:
        return section
    name = slug(group.name)
    if len(name) > _LONGEST:  # a group of many directories
        name = f"{name[:_LONGEST]}-{hashlib.sha256(group.name.encode()).hexdigest()[:6]}"
    return f"{section}_{name}"


def slug(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")


def titled(title: str, group: Group, groups: Sequence[Group]) -> str:
    return title if len(groups) == 1 else f"{title}: {group.name}"


def said(found: Interval | None, nothing: float, above: str, below: str) -> str | None:
    """What an interval shows; `nothing` is the value that means no difference."""
    if found is None:
        return None
    if math.isnan(found.low):
        return f"too few for an interval ({FEWEST_BLOCKS} blocks or more)"
    return {"higher": above, "lower": below}.get(verdict(found, nothing), NO_DIFFERENCE)


def bounds(found: Interval | None) -> tuple[float, float] | None:
    """Of a chart's bar; None where they are not known."""
    return None if found is None or math.isnan(found.low) else (found.low, found.high)


def tau(rows: Iterable[Record]) -> Interval | None:
    """Emitted tokens a target forward, resampled by prompt."""
    return of_prompts((row.prompt_id, row.n_tokens, row.rounds) for row in rows)


def pace(rows: Sequence[Record]) -> Interval | None:
    """Tokens a second, resampled by block."""
    return ratio([(block.tokens, block.seconds) for block in pairs(rows, rows)])


def of_prompts(counts: Iterable[tuple[str, float, float]]) -> Interval | None:
    """A ratio of two sums; the rows of a prompt are drawn together."""
    sums: dict[str, tuple[float, float]] = {}
    for prompt, above, below in counts:
        so_far = sums.get(prompt, (0.0, 0.0))
        sums[prompt] = (so_far[0] + above, so_far[1] + below)
    return ratio([*sums.values()])
