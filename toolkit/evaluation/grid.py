"""`grid:` in a recipe's method: one node stands for a method of each combination of some options' values.

    {name: autojudge, proposer: ..., accept: ..., grid: {accept.threshold: [0, 0.05, 1], length.k: [4, 8]}}

is autojudge_threshold=0_k=4, autojudge_threshold=0_k=8, ..., the first key slowest. A key is `slot.option` of the
method; names have its last part, or all of it where two keys end alike. Values go from small to large, or the other
way: two cells are neighbours where they are one step apart along one list.
"""

import copy
import itertools
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from toolkit import registry
from toolkit.errors import UserError
from toolkit.methods import MethodConfig

_SLOTS = [one.name for one in fields(MethodConfig) if one.name != "name"]
_EXAMPLE = "{accept.threshold: [0, 0.1], length.k: [4, 8]}"


@dataclass(frozen=True)
class Cell:
    """A method as a recipe has it, and its place in the grid that it comes from."""

    node: Any  # for methods.resolve
    grid: str | None = None  # its name; None: a method on its own
    values: dict[str, Any] = field(default_factory=dict)  # dotted key -> value
    place: tuple[int, ...] = ()  # of each value in its list

    @property
    def entry(self) -> dict[str, Any] | None:
        """As results.json has it; None of a method on its own."""
        return {"name": self.grid, "values": self.values, "place": list(self.place)} if self.grid else None

    def beside(self, other: "Cell") -> bool:
        """One step along one axis."""
        if self.grid is None or self.grid != other.grid:
            return False
        return sum(abs(mine - theirs) for mine, theirs in zip(self.place, other.place, strict=True)) == 1


def expand(node: Any, where: Path | str) -> list[Cell]:
    """The methods that a recipe's node stands for: one, or those of its grid."""
    if not isinstance(node, dict) or "grid" not in node:
        return [Cell(node)]
    plain = {key: value for key, value in node.items() if key != "grid"}
    name, axes = plain.get("name"), node["grid"]
    if not isinstance(name, str) or not name:
        raise UserError(f"{where}: method {node!r} has a grid, and no 'name' for the names of its cells to begin with.")
    where = f"{where}: method '{name}', key 'grid'"
    _check(axes, where)
    ends = Counter(key.rpartition(".")[2] for key in axes)
    shown = {key: end if ends[end := key.rpartition(".")[2]] == 1 else key for key in axes}
    cells = []
    for place in itertools.product(*(range(len(values)) for values in axes.values())):
        values = {key: axes[key][index] for key, index in zip(axes, place, strict=True)}
        method = copy.deepcopy(plain)
        method["name"] = "_".join([name, *(f"{shown[key]}={_spelled(value)}" for key, value in values.items())])
        for key, value in values.items():
            _set(method, key, value, where)
        cells.append(Cell(method, name, values, place))
    return cells


def _check(axes: Any, where: str) -> None:
    if not isinstance(axes, Mapping) or not axes:
        raise UserError(f"{where} is {axes!r}; expected options and lists of their values, as in {_EXAMPLE}.")
    for key, values in axes.items():
        slot, *rest = str(key).split(".")
        if slot not in _SLOTS or not rest or not all(rest):
            raise UserError(
                f"{where}: unknown key '{key}'.{registry.nearest(slot, _SLOTS)} Expected an option of "
                f"{', '.join(_SLOTS)} after a dot, as in {_EXAMPLE}."
            )
        if not isinstance(values, list) or not values:
            raise UserError(f"{where}: '{key}' is {values!r}; expected a list of one value or more, as in [4, 8].")
        odd = [value for value in values if not isinstance(value, str | int | float | None)]
        if odd:
            raise UserError(f"{where}: '{key}' has {odd[0]!r}; expected numbers, words, true, false or null.")
        # equal as values (1 and 1.0), or in a name
        for seen in (values, [_spelled(value) for value in values]):
            twice = [value for value, count in Counter(seen).items() if count > 1]
            if twice:
                raise UserError(f"{where}: '{key}' has {twice[0]!r} twice; expected different values.")


def _set(method: dict[str, Any], key: str, value: Any, where: str) -> None:
    """A dotted key of a method's node; a piece that is named or left out becomes the mapping that it stands for."""
    *path, last = key.split(".")
    piece = method.get(path[0], {} if "base" in method else vars(MethodConfig())[path[0]])
    method[path[0]] = {"type": piece} if isinstance(piece, str) else piece
    node = method
    for part in path:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise UserError(f"{where}: '{key}' goes through '{part}', which is {node!r}; write it out as a mapping.")
    node[last] = value


def _spelled(value: str | float | None) -> str:
    """As in YAML; of a path or a sentence what can stand in a file's name and in a command."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return re.sub(r"[^\w.+-]+", "-", str(value)).strip("-")
