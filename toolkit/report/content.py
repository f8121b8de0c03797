"""What finished runs have to say, as a page: one section after the other, and what they do not say."""

from collections.abc import Sequence
from pathlib import Path

from toolkit import version
from toolkit.report import (
    acceptance,
    certificate,
    examples,
    failures,
    headline,
    latency,
    phases,
    provenance,
    runs,
    tasks,
    texts,
    tradeoff,
    usage,
    windows,
)
from toolkit.report.page import Page, Section, Text
from toolkit.report.runs import Group

_SECTIONS = {
    "Headline": headline,
    "Speed against accuracy": tradeoff,
    "Speedup by task": tasks,
    "Tau and acceptance by position": acceptance,
    "Window ablation": windows,
    "Latency": latency,
    "Where the time goes": phases,
    "Draft usage": usage,
    "Tokens of an answer": texts,
    "Failures": failures,
    "Examples": examples,
    "Losslessness certificate": certificate,
    "Provenance": provenance,
}


def page(paths: Sequence[Path]) -> Page:
    """Of output directories of `python -m eval`, and of studies. UserError where one is none."""
    groups = runs.read(paths)
    found, missing = [], []
    for title, module in _SECTIONS.items():
        made = module.section(groups)
        if isinstance(made, Section):
            found.append(made)
        else:
            missing.append(f"{title}: {made}.")
    if missing:
        intro = "Sections that these runs have no data for."
        found.append(Section("missing", "Not in these runs", intro, [Text(line) for line in missing]))
    return Page("Speculative decoding, measured", _subtitle(groups), found)


def _subtitle(groups: Sequence[Group]) -> str:
    """How much there is, and who wrote it."""
    methods = {method for group in groups for method in group.joined.methods}
    counts = {
        "row": sum(len(group.rows) for group in groups),
        "method": len(methods),
        "target": len({group.target for group in groups}),
        "task": len({group.joined.identity["task"]["type"] for group in groups}),
        "run": sum(len(group.runs) for group in groups),
    }
    said = ", ".join(f"{count:,} {name}{'' if count == 1 else 's'}" for name, count in counts.items())
    return f"{said}; draftsmith {version.code()['version']}"
