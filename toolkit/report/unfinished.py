"""A run that is under way, or was killed: what its rows say, without the summary that the end of a run writes."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from toolkit.errors import UserError
from toolkit.evaluation import grid, parts, schema
from toolkit.evaluation import recipe as recipes
from toolkit.evaluation.joined import Run
from toolkit.evaluation.outdir import RECIPE, RECORDS, RESULTS, RUN
from toolkit.evaluation.recipe import EvalRecipe
from toolkit.evaluation.score import ACCURACY, BASELINE

_STAYS = ("metric", "models")  # of a summary, when its run is extended


def state(path: Path) -> str | None:
    """Why its summary does not stand for its rows; None where it does, and where `joined.read` says what is wrong."""
    if not (path / RUN).is_file():
        return None
    if not (path / RESULTS).is_file():
        return "the run is under way or was killed"
    wrote, summed_up = (_sessions(path / name) for name in (RUN, RESULTS))
    if wrote is None or summed_up is None or wrote <= summed_up:
        return None
    return f"the run goes on, or was killed, beyond what its {RESULTS} sums up"


def read(path: Path, why: str) -> Run:
    """From its rows, and what it wrote before them. why: its state."""
    marker, recipe = _marker(path, why), _recipe(path, why)
    methods = marker["identity"]["methods"]
    rows = [row for row in parts.so_far(path / RECORDS) if row.method in methods]
    done, lossy = {row.method for row in rows}, {row.method for row in rows if not row.lossless}
    if BASELINE not in done:
        raise UserError(f"{path}: {why}, and there is no row of the {BASELINE} yet. Run its command again.")
    cells = [cell for node in recipe.methods for cell in grid.expand(node, path / RECIPE) if cell.grid]
    places = {cell.node["name"]: cell.entry for cell in cells}
    judged = any(row.correct is not None for row in rows) or not any(row.ok for row in rows)
    results: dict[str, Any] = {
        "recipe": asdict(recipe),
        "methods": {
            name: {**pieces, "lossless": name not in lossy, "grid": places.get(name)}
            for name, pieces in methods.items()
            if name in done
        },
        "metric": ACCURACY if judged else None,
        "models": {},
        "sessions": marker["sessions"],
        "equality": [],
        "routing": {},
        "notes": [],
    }
    if (path / RESULTS).is_file():
        before = json.loads((path / RESULTS).read_text(encoding="utf-8"))
        results |= {key: before[key] for key in _STAYS if key in before}
    return Run(path, marker["identity"], results, rows)


def _sessions(file: Path) -> set[str] | None:
    """The processes that it names; None where it is damaged."""
    try:
        return {session["id"] for session in json.loads(file.read_text(encoding="utf-8"))["sessions"]}
    except (ValueError, KeyError, TypeError):
        return None


def _marker(path: Path, why: str) -> dict[str, Any]:
    file = path / RUN
    try:
        schema.RunFile.model_validate_json(file.read_bytes())
    except ValidationError as error:
        key, expected = schema.explained(error)[0]
        wrong = f"key '{key}': {expected}" if key else expected
        raise UserError(
            f"{file}: {wrong}. {why[0].upper()}{why[1:]}, so the rows are all there is, and this file says whose they "
            f"are. Delete {path} and run its command again."
        ) from None
    return json.loads(file.read_bytes())


def _recipe(path: Path, why: str) -> EvalRecipe:
    file = path / RECIPE
    again = f"{why[0].upper()}{why[1:]}, so the report is made from its recipe and rows. Run its command again."
    if not file.is_file():
        raise UserError(f"{path}: has no {RECIPE}. {again}")
    try:
        return recipes.load(file, [])
    except UserError as error:
        raise UserError(f"{error} {again}") from None
