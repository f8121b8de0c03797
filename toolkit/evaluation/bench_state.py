"""What a bench has found so far, saved beside its result after each repeat, so that a stopped one can go on."""

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from toolkit.evaluation import tune
from toolkit.files import write_json


@dataclass
class Pass:
    """One contestant over the prompts, once."""

    tokens: int = 0
    seconds: float = 0.0
    texts: list[list[int]] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds


@dataclass
class State:
    """What a bench has found so far; saved after each repeat."""

    curve: dict[str, dict[int, float]]  # whose forwards -> tokens -> milliseconds
    tuned: dict[str, tune.Choice]  # n-gram contestant -> its window
    repeats: list[dict[str, dict[str, Pass]]] = field(default_factory=list)  # of mode -> contestant -> pass


def identity(recipe: object, system: dict[str, Any], models: dict[str, Any]) -> dict[str, Any]:
    """Repeats are pooled only where this is equal: the recipe, the machine, the versions of everything, the weights.

    How many repeats there are to be is no part of it: a bench may be extended.
    """
    pooled = {key: value for key, value in asdict(recipe).items() if key not in ("repeats", "out")}
    return json.loads(json.dumps({"recipe": pooled, "system": system, "models": models}))


def save(path: Path, whose: dict[str, Any], state: State) -> None:
    write_json(path, {**whose, "state": asdict(state)})


def load(path: Path, whose: dict[str, Any]) -> State | None:
    """What an interrupted bench of the same identity had done; another one is not mixed in."""
    if not path.exists():
        return None
    saved = json.loads(path.read_text())
    state = saved.pop("state")
    if saved != whose:
        print(f"bench: {path} is of another recipe, machine or version; starting afresh", file=sys.stderr)
        return None
    return State(
        curve={name: {int(width): ms for width, ms in row.items()} for name, row in state["curve"].items()},
        tuned={name: tune.Choice(**choice) for name, choice in state["tuned"].items()},
        repeats=[
            {mode: {name: Pass(**one) for name, one in passes.items()} for mode, passes in repeat.items()}
            for repeat in state["repeats"]
        ],
    )
