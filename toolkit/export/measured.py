"""Measured figures into a manifest: from an eval's results.json or a study's study.json, and from nowhere else.

A cell counts where the artifact took part in it, told by its digest in the provenance of the models, not by its path. A
file that was recorded before is recorded anew, so measuring again replaces figures instead of adding to them.
"""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from toolkit import artifact
from toolkit.artifact import Manifest
from toolkit.config import parse
from toolkit.errors import UserError
from toolkit.loading import ModelConfig

_LISTED = 12  # characters of a digest in a provenance


def record(directory: Path, results: Path) -> Manifest:
    """Add what the file says of the artifact to its manifest. UserError where it says nothing."""
    manifest = artifact.verify(directory)
    digest = artifact.digest(directory)[:_LISTED]
    rows = [row for cell in _cells(results) for row in _rows(cell, manifest, digest, str(results))]
    if not rows:
        raise UserError(
            f"{results}: no run in it used {directory} (SHA-256 {digest}...). Was the artifact trained again after it?"
        )
    others = [row for row in manifest.metrics if row.get("result_file") != str(results)]
    return artifact.write(directory, dataclasses.replace(manifest, metrics=[*others, *rows]))


def _cells(path: Path) -> list[dict[str, Any]]:
    """The eval runs in a file: a study has several."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        cells = data.get("cells", [data])
        for cell in cells:
            cell["recipe"]["sampling"], cell["models"], cell["methods"], cell["speed"], cell["quality"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: expected the results.json of an eval or the study.json of a study "
            f"({type(error).__name__}: {error})."
        ) from None
    return cells


def _rows(cell: dict[str, Any], manifest: Manifest, digest: str, file: str) -> Iterator[dict[str, Any]]:
    """One row a method: those that the artifact decides about."""
    used = {label for label, model in cell["models"].items() if digest in model["source"]}
    target = parse(ModelConfig, cell["recipe"]["target"], f"{file}: key 'recipe.target'").label
    quality = {one["method"]: one for one in cell["quality"]}
    speed = {one["method"]: one for one in cell["speed"]}
    for name, method in cell["methods"].items():
        pieces = {*method["weights"], *map(str, method["proposer"].values())}  # a head is named in its proposer
        decides = target in used if "target" in manifest.provides else bool(used & pieces)
        if decides:
            figures = {**_quality(quality.get(name)), **_speed(speed.get(name))}
            yield {**_setting(cell, name, method), **figures, "result_file": file}


def _setting(cell: dict[str, Any], name: str, method: dict[str, Any]) -> dict[str, Any]:
    task = cell["recipe"]["task"]
    options = {} if isinstance(task, str) else task
    session = cell["sessions"][-1]["system"]
    row = {
        "task": task if isinstance(task, str) else task["type"],
        "style": options.get("style"),
        "method": name,
        "temperature": cell["recipe"]["sampling"]["temperature"],
        "k": method["length"].get("k") if method["proposer"]["type"] != "none" else None,
        "lossless": method["lossless"],
        "hardware": f"{session['gpu'] or session['cpu']}, {session['threads']} threads",
    }
    return {key: value for key, value in row.items() if value is not None}


def _quality(one: dict[str, Any] | None) -> dict[str, Any]:
    if one is None or one["inherited"] or not one["accuracy"]:
        return {}
    accuracy = one["accuracy"]
    return {
        "accuracy": accuracy["value"],
        "accuracy_low": accuracy["low"],
        "accuracy_high": accuracy["high"],
        "n": one["n"],
        "cut": one["cut"],
        "tokens": one["mean_tokens"],
    }


def _speed(one: dict[str, Any] | None) -> dict[str, Any]:
    if one is None:
        return {}
    row = {
        "speed_n": one["n"],
        "tau": one["tau"],
        "acceptance": one["unconditional"] or None,
        "tokens_per_s": one["tokens_per_second"],
        "seconds_per_correct": one["seconds_per_correct"],
    }
    if one["speedup"]:
        row |= {"speedup": one["speedup"]["value"], "speedup_low": one["speedup"]["low"]}
        row["speedup_high"] = one["speedup"]["high"]
    return {key: value for key, value in row.items() if value is not None}
