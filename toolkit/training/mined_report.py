"""Mined mismatches in figures and tables: whose they are, how many there are, how many matter, and where."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.errors import UserError
from toolkit.evaluation.table import Table
from toolkit.export.figures import number, percent
from toolkit.nets.judge import COLUMNS
from toolkit.training.mined import Mined
from toolkit.training.trace_report import aligned, named, task

_PARTS = 5  # of an answer


def figures(directory: Path) -> dict[str, Any]:
    """Everything that is known of a mined directory, for programs."""
    mined = Mined.open([directory])
    prompts = mined.prompts()
    if not prompts.num_rows:
        raise UserError(f"{directory}: holds nothing yet. Run its train/autojudge.py command.")
    files = [path for path in directory.rglob("*") if path.is_file()]
    known = [right for right in prompts["correct"].to_pylist() if right is not None]
    sizes = [len(tokens) for tokens in prompts["target_tokens"].to_pylist()]
    tried, important, decoded, seconds = (
        np.array(prompts[name].to_pylist()) for name in ("mismatches", "important", "decoded", "seconds")
    )
    found = {
        "header": asdict(mined.header),
        "bytes": sum(path.stat().st_size for path in files),
        "files": len(files),
        "prompts": prompts.num_rows,
        "searched": prompts.num_rows - prompts["alpha"].null_count,  # in the others' answers the task finds nothing
        "correct": sum(known) / len(known) if known else None,  # share of the target's own answers
        "tokens": sum(sizes),  # of these
        "mismatches": int(tried.sum()),
        "important": int(important.sum()),
        "decoded": int(decoded.sum()),  # tokens of continuations
        "seconds": float(np.median(seconds)),  # of a prompt's search, beside the others of its batch
    }
    if not found["mismatches"]:
        return found
    return found | _mismatches(mined, dict(zip(prompts["prompt"].to_pylist(), sizes, strict=True)))


def _mismatches(mined: Mined, sizes: dict[str, int]) -> dict[str, Any]:
    """sizes: of each prompt's own answer, in tokens."""
    rows = mined.rows(["prompt", "position", "important", *COLUMNS])
    important = np.array(rows["important"].to_pylist())
    size = np.array([sizes[prompt] for prompt in rows["prompt"].to_pylist()])
    # An answer may have grown by its swaps: what lies behind its former end is in the last part
    part = np.minimum(np.array(rows["position"].to_pylist()) * _PARTS // size, _PARTS - 1)
    return {
        "by_part": {
            "mismatches": np.bincount(part, minlength=_PARTS).tolist(),
            "important": np.bincount(part, important, minlength=_PARTS).astype(int).tolist(),
        },
        "means": {
            name: {
                word: float(np.array(rows[name].to_pylist())[chosen].mean()) if chosen.any() else None
                for word, chosen in (("important", important), ("unimportant", ~important))
            }
            for name in COLUMNS
        },
    }


def heading(found: dict[str, Any], directory: Path) -> str:
    """Whose rows they are, in lines."""
    header, whole = found["header"], found["prompts"]
    right = "" if found["correct"] is None else f", {percent(found['correct'])} of the target's answers right"
    lines = {
        "mined": f"{directory} (schema {header['schema_version']})",
        "target": named(header["binds"]["target"]),
        "draft": f"{named(header['binds']['draft'])}, {header['proposer']['type']}",
        "data": ", ".join(map(task, header["data"])) or "not recorded",
        "answers": f"greedy; at most {header['max_new_tokens']} tokens",
        "states kept": ", ".join(header["hidden"]) or "none",
        "size": f"{found['bytes'] / 1e6:,.1f} MB in {found['files']} files",
        "prompts": f"{whole:,}, {found['searched']:,} of them searched (in the others the task finds no answer){right}",
        "tokens": f"{found['tokens']:,} of the target's answers, {found['decoded']:,} of continuations",
        "mismatches": f"{found['mismatches']:,}, {found['important']:,} of them important"
        + (f" ({percent(found['important'] / found['mismatches'])})" if found["mismatches"] else ""),
        "seconds": f"{found['seconds']:.1f} a prompt, median, beside the others of its batch",
        "created": header["created"],
    }
    return aligned(lines)


def tables(found: dict[str, Any]) -> list[Table]:
    if "by_part" not in found:
        return []
    parts, means = found["by_part"], found["means"]
    pairs = list(zip(parts["mismatches"], parts["important"], strict=True))
    rows = [
        ["mismatches", *(f"{tried:,}" for tried, _ in pairs)],
        ["important", *(f"{important:,}" for _, important in pairs)],
        ["share", *(percent(important / tried if tried else None) for tried, important in pairs)],
    ]
    places = [f"{100 * i // _PARTS}-{100 * (i + 1) // _PARTS}%" for i in range(_PARTS)]
    laws = [[name, *(number(one[word], 2) for word in ("important", "unimportant"))] for name, one in means.items()]
    note = "of the law that judges the draft's token, at temperature 1, nats; p: the target's, q: the draft's"
    return [
        Table("Mismatches by place in the target's answer", ["", *places], rows, []),
        Table("Means", ["", "important", "unimportant"], laws, [note]),
    ]
