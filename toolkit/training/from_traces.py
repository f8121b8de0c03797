"""What everything has in common that is learned from traces: nothing is decoded, and no model is loaded to learn.

The artifact is bound to the trace's target and draft. It is tried on four prompts where both are at hand; where not,
the manifest says so, and `draftsmith check DIR` does it later.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from toolkit import artifact, config, sources
from toolkit.artifact import Manifest
from toolkit.binding import Identity, shortened
from toolkit.errors import NotThere, UserError
from toolkit.hub import ModelConfig, Models
from toolkit.training import finish, processes
from toolkit.training.traces import HEADER, PLACES, Trace


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
    """Which rows [n] are of requests (prompts) that are not learned from: a share of them, at least one."""
    known = np.unique(request)
    if len(known) < 2:
        raise UserError(
            f"what was recorded is of {len(known)} request; expected two or more, one of them to be held out."
        )
    count = min(max(1, round(share * len(known))), len(known) - 1)
    return np.isin(request, np.random.default_rng(seed).permutation(known)[:count])


def begin(recipe: TraceRecipe, where: Path | str) -> Trace | None:
    """The recipe's trace; None where what it teaches is there already. UserError under several processes."""
    if (count := processes.joined().num_processes) > 1:
        raise UserError(
            f"{where}: this is learned by one process in a minute, and {count} were launched. Launch with "
            "--num_processes 1 (accelerate_configs/cpu.yaml, single_gpu.yaml)."
        )
    trace, out = Trace.open(recipe.traces), Path(recipe.out)
    if finished(out, recipe, trace):
        sources.say(f"{out} is there already; delete it to train again")
        return None
    return trace


def finished(out: Path, recipe: TraceRecipe, trace: Trace) -> bool:
    """Whether what this recipe learns from this trace is there already. UserError where something else is."""
    if not finish.finished(out, recipe):
        return False
    stored, now = artifact.read(out).data, _learned_from(trace, recipe.temperature)
    for key, what in (("fingerprint", "positions"), ("costs", "costs")):
        if stored.get(key) != now[key]:
            raise UserError(
                f"{out}: was learned from other {what} than {', '.join(recipe.traces)} has now (key 'data.{key}' of "
                f"{artifact.MANIFEST}): it was extended, collected or measured again. Delete {out} to learn from it as "
                "it is, or set out=DIR."
            )
    return True


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
    data = _learned_from(trace, recipe.temperature) | {"traces": recipe.traces, "sources": asked}
    return placed(
        recipe,
        command,
        header,
        trace.directories[0] / HEADER,
        header.binds,
        kind=kind,
        pieces=pieces,
        figures={"data": data, "training": figures},
        fill=fill,
    )


class Pair(Protocol):
    """What was recorded of whom: the header of a trace, or of mined mismatches."""

    target: dict[str, Any]  # a ModelConfig
    proposer: dict[str, Any]  # a piece, all its options
    binds: dict[str, Identity]  # "target" and "draft" as they were


def placed(
    recipe: finish.Recipe,
    command: dict[str, Any],
    pair: Pair,
    header: Path,
    binds: dict[str, Identity],
    *,
    kind: str,
    pieces: dict[str, dict[str, Any]],
    figures: dict[str, Any],
    fill: Callable[[Path], None],
) -> Manifest:
    """As `put`, of any pair, which stands in the file `header`.

    binds: to which of the two it is bound. figures: `data` and `training` of the manifest.
    """
    manifest = finish.described(recipe, command, kind, sorted(pieces), {}, binds, figures)
    manifest = dataclasses.replace(manifest, composes={"target": pair.target, "proposer": pair.proposer, **pieces})
    found = _pair(pair, header)
    absent, models = (found, None) if isinstance(found, str) else (None, found)
    return finish.place(manifest, Path(recipe.out), fill, absent=absent, models=models)


def _pair(pair: Pair, where: Path) -> Models | str:
    """The recorded target, its draft loaded, too; or why they cannot be tried here. UserError where they are others."""
    try:
        models = Models(config.parse(ModelConfig, pair.target, f"{where}: target"))
        module, options = config.piece("proposers", pair.proposer, f"{where}: proposer")
        weights = module.build(options, models).weights
    except NotThere as error:
        sources.say(f"not tried, as the target or its draft is not at hand: {error}")
        return f"target or draft not at hand when it was trained: {error}"
    target, draft = pair.binds["target"], pair.binds["draft"]
    for role, bound, found in (
        ("target", target, models.identity()),
        ("draft", draft, draft | {"fingerprint": weights}),
    ):
        for key in ("fingerprint", "tokenizer", "adapters"):
            if bound[key] != found[key]:
                raise UserError(
                    f"{where}: key 'binds.{role}.{key}' is {shortened(bound[key])}, and '{bound['name']}' as it is "
                    f"here has {shortened(found[key])}: not what was recorded, so what was learned cannot be tried. "
                    "Put the recorded one there, or record again."
                )
    return models


def _learned_from(trace: Trace, temperature: float) -> dict[str, str]:
    """What names the records that are learned from: SHA-256 of all positions, in any order, and of the costs."""
    costs = json.dumps(dataclasses.asdict(trace.costs(temperature)), sort_keys=True)
    return {"fingerprint": fingerprint(trace), "costs": hashlib.sha256(costs.encode()).hexdigest()}


def fingerprint(trace: Trace) -> str:
    """SHA-256 of all positions, whatever the order of the directories."""
    digests = []
    for part in trace.parts(PLACES):
        with part.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return hashlib.sha256(" ".join(sorted(digests)).encode()).hexdigest()
