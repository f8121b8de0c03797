"""What everything has in common that is learned from traces: nothing is decoded, and no model is loaded to learn.

The artifact is bound to the trace's target and draft. It is tried on four prompts where both are at hand; where not,
the manifest says so, and `draftsmith check DIR` does it later.
"""

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from toolkit import config, methods, sources
from toolkit.artifact import Manifest
from toolkit.errors import UserError
from toolkit.hub import ModelConfig, Models
from toolkit.training import finish
from toolkit.training.traces import PLACES, Trace


@dataclass
class TraceRecipe:
    traces: list[str] = field(default_factory=list)  # directories of train/collect.py, of one target and draft
    temperature: float = 1.0  # learn from what was drafted at this one
    valid: float = 0.2  # share of the requests that is held out
    seed: int = 0
    method: str = ""  # for the card: how this was trained, in words
    licence: str = ""  # SPDX id of the base model's licence, for the card
    out: str | None = None  # null: checkpoints/<name of the recipe's file>


def load(schema: type[TraceRecipe], path: Path | str, overrides: list[str]) -> Any:
    """A recipe of this schema, what all share checked, `out` filled in. UserError says what is wrong with it."""
    recipe = config.load(schema, path, overrides)
    rules = [
        ("traces", recipe.traces, recipe.traces, "one directory or more"),
        ("temperature", recipe.temperature, recipe.temperature >= 0, "0 (greedy) or above"),
        ("valid", recipe.valid, 0 < recipe.valid < 1, "a share between 0 and 1: it is judged by what is held out"),
    ]
    config.require(path, rules)
    return dataclasses.replace(recipe, out=recipe.out or f"checkpoints/{Path(path).stem}")


def held_out(request: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Which windows [n] are of requests that are not learned from: a share of them, at least one."""
    known = np.unique(request)
    if len(known) < 2:
        raise UserError(f"the trace has {len(known)} request; expected two or more, one of them to be held out.")
    count = min(max(1, round(share * len(known))), len(known) - 1)
    return np.isin(request, np.random.default_rng(seed).permutation(known)[:count])


def put(
    recipe: TraceRecipe,
    command: dict[str, Any],
    trace: Trace,
    *,
    kind: str,
    pieces: dict[str, dict[str, Any]],
    figures: dict[str, Any],
    fill: Callable[[Path], None],
) -> Manifest:
    """The artifact in place in `recipe.out`.

    pieces: slot of a method (length, accept) -> the piece that this artifact is there, with "." for its directory.
    figures: of the training, for the manifest.
    """
    header = trace.header
    asked = [node if isinstance(node, dict) else {"type": node} for node in header.data]
    data = {"fingerprint": _fingerprint(trace), "traces": recipe.traces, "sources": asked}
    manifest = finish.described(
        recipe, command, kind, sorted(pieces), {}, header.binds, {"data": data, "training": figures}
    )
    manifest = dataclasses.replace(manifest, composes={"target": header.target, "proposer": header.proposer, **pieces})
    return finish.place(manifest, Path(recipe.out), fill, absent=_absent(trace))


def _absent(trace: Trace) -> str | None:
    """Why the pair cannot be tried here; None where it can."""
    header = trace.header
    try:
        models = Models(config.parse(ModelConfig, header.target, f"{trace.directories[0]}: target"))
        node = {"name": "pair", "proposer": header.proposer}
        methods.decoder(methods.resolve(node, trace.directories[0]), models)
    except UserError as error:
        sources.say(f"not tried, as the target or its draft is not at hand: {error}")
        return f"target or draft not at hand when it was trained: {error}"
    return None


def _fingerprint(trace: Trace) -> str:
    """SHA-256 of all positions."""
    total = hashlib.sha256()
    for part in trace.parts(PLACES):
        with part.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()
