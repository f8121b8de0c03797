"""What a card says of classifiers that decide about tokens: judges (AutoJudge) and gates (Consensus AutoJudge)."""

from typing import Any

from toolkit.artifact import Manifest
from toolkit.export.figures import number, percent
from toolkit.export.tables import grid

Figures = dict[str, Any]


def quality(found: Figures) -> list[str]:
    """Tables of a manifest's `training`; none where it is of nothing that decides about tokens."""
    tables = []
    if auc := found.get("auc"):
        controls = found["controls"]
        rows = {
            "on the prompts that chose its threshold": auc["held_out"],
            "crossed, on all prompts": auc["crossed"],
            "control: the distribution features alone, crossed": controls["distribution"]["crossed"],
            "control: an option by lot, crossed": controls["option_by_lot"]["crossed"],
        }
        lines = [[name, _interval(one)] for name, one in rows.items()] + [["chance", number(controls["chance"], 3)]]
        tables.append("AUC, important against unimportant mismatches [95%, by prompt]:\n\n" + grid(["", "AUC"], lines))
        lines = [
            [percent(row["recall"]), f"{row['threshold']:.4g}", percent(row["reached"]), percent(row["accepts"])]
            for row in found["table"]
        ]
        columns = ["recall asked for", "threshold", "important found", "unimportant let through"]
        tables.append("Thresholds, on held-out prompts:\n\n" + grid(columns, lines))
    if "val_macro_f1" in found:
        rows = [(f"{row['fallback_threshold']:g}", row) for row in found["thresholds"]] + [("the rule", found["rule"])]
        lines = [[name, *(percent(row[key]) for key in ("d1", "d2", "fallback", "right"))] for name, row in rows]
        columns = ["fallback_threshold", "of D1", "of D2", "the target asked", "drafted tokens that are right"]
        tables.append("Whose tokens it takes, on held-out answers:\n\n" + grid(columns, lines))
    return tables


def _interval(auc: Figures) -> str:
    return f"{number(auc['value'], 3)} [{number(auc['low'], 3)}, {number(auc['high'], 3)}]"


def limits(manifest: Manifest) -> list[str]:
    """What must be known before a judge or a gate is used."""
    if manifest.kind == "consensus":
        return [
            "Tokens that it leaves to a draft stand unverified. They change what the target writes, the more the "
            "higher its fallback threshold; at 0 the target writes all. For greedy decoding only.",
            "It was trained on answers to one kind of problem. On others it takes drafts to be better than they are.",
        ]
    return [
        "Mismatches that it lets stand change what the target writes, the more the higher its threshold; at 0 none "
        "stands.",
        "Its thresholds are of the task that it was mined on. On another task, or under another template, it finds "
        "another share of what is important.",
    ]
