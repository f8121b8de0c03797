"""What a card says of a router: each draft on each domain, and what choosing was worth on prompts it had not seen."""

from typing import Any

from toolkit.export.figures import NONE, bounds, number
from toolkit.export.tables import grid

Figures = dict[str, Any]

KIND = "router"
LIMITS = [
    "Under a lossless acceptance rule the choice of a draft changes how fast the target writes, never what it writes.",
    "It was learned on the times of one machine, at one batch and temperature; elsewhere another draft may be fastest. "
    "It loads its drafts and its sentence encoder from where they were; neither is in it.",
]
_DRAFTS = ("domain", "draft", "prompts", "ms a token", "tau", "accepted of proposed")


def quality(found: Figures) -> list[str]:
    """Tables of a manifest's `training`; none where it is not a router's."""
    tables = []
    if matrix := found.get("matrix"):
        lines = [
            [domain, draft, str(one["prompts"]), *(_interval(one[key]) for key in ("ms", "tau", "acceptance"))]
            for domain, drafts in matrix.items()
            for draft, one in drafts.items()
        ]
        tables.append("Each draft on each domain, as tried [95%, by prompt]:\n\n" + grid(_DRAFTS, lines))
    if test := found.get("test"):
        choosers = {
            "routed": "this router, its own time left out",
            "single": f"always `{test['single']}`, the best where it was trained",
            "single_best_here": f"always `{test['single_best_here']}`, the best on these prompts",
            "random": "a lot",
            "oracle": "the fastest each time, known afterwards",
        }
        lines = [
            [words, number(test["ms"][name], 2), _interval(test["regret"].get(name))]
            for name, words in choosers.items()
        ]
        title = f"Who chooses, on {test['prompts']} prompts that it was not trained on [95%, by prompt]:\n\n"
        tables.append(title + grid(("", "ms a token", "regret"), lines))
        names = test["drafts"]
        lines = [[name, *map(str, row)] for name, row in zip(names, test["confusion"], strict=True)]
        tables.append("Chosen (columns) where a draft was the fastest (rows):\n\n" + grid(("", *names), lines))
    return tables


def _interval(one: Figures | None) -> str:
    return NONE if one is None else f"{number(one['value'], 2)} {bounds(one['low'], one['high'], '.2f')}"
