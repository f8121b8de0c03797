"""Checkpoint directories as a recipe: their manifests say what each one is, and what it was made for.

Directories are sorted by the target that they are bound to, and every target gets a recipe of its own: baseline, each
proposer with plain rejection, and each length policy, acceptance rule or gate with the drafts that it was trained with.
These are looked for among the directories: under the name that the manifest has for them, or by the digest of their
weights where they were moved. What is not there is an error, and so is a draft that was trained again since.
"""

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolkit import artifact, binding, config, loading, policy, registry
from toolkit.artifact import Manifest
from toolkit.binding import Identity
from toolkit.errors import UserError
from toolkit.hub import ModelConfig, Models
from toolkit.nets import gate

_SAME = ("revision", "dtype", "quant")  # options of a target that an artifact was made with, and is used with
_NAMES = ("name", "head", "gate", "artifact")  # keys of a proposer under which a model or a directory stands
_ITSELF = "."  # in a manifest's `composes`: the artifact's own directory
Tree = dict[str, Any]


@dataclass(frozen=True)
class Given:
    """An artifact as the user named it."""

    path: str
    manifest: Manifest

    @property
    def name(self) -> str:
        return Path(self.path).resolve().name

    @property
    def digest(self) -> str:
        return artifact.digest(Path(self.path))

    def provides(self, slot: str) -> bool:
        return slot in self.manifest.provides


@dataclass(frozen=True)
class Composition:
    """A target, and the methods that the directories make for it."""

    target: Tree  # a ModelConfig
    methods: list[Tree]
    left_out: dict[str, str] = field(default_factory=dict)  # directory -> why

    @property
    def name(self) -> str:
        """Of files: the last of its adapters, else the model."""
        last = [self.target["name"], *self.target["adapters"]][-1]
        return re.sub(r"[^\w.+-]+", "-", Path(last).name)


def of(directories: Sequence[str], temperature: float) -> list[Composition]:
    """A composition for every target. UserError where an artifact's target or draft is not to be found."""
    given = [Given(path, artifact.read(Path(path))) for path in directories]
    for number, one in enumerate(given):
        if twins := [other.path for other in given[:number] if other.name == one.name]:
            if Path(twins[0]).resolve() == Path(one.path).resolve():
                raise UserError(f"{one.path}: is there twice (also as {twins[0]}); name each directory once.")
            raise UserError(
                f"{one.path} and {twins[0]}: methods are named after their directories; rename one of them."
            )
    return [_composition(target, group, given, temperature) for target, group in _by_target(given)]


def _by_target(given: Sequence[Given]) -> list[tuple[Identity, list[Given]]]:
    """The identities of targets, each with the directories that are, or are bound to, that target."""
    groups: list[tuple[Identity, list[Given]]] = []
    for one in given:
        target = _target(one)
        for known, group in groups:
            if known["adapters"] == target["adapters"] and binding.same_model(known, target):
                group.append(one)
                break
        else:
            groups.append((target, [one]))
    return groups


def _target(one: Given) -> Identity:
    bound = one.manifest.binds.get("target")
    if not one.provides("target"):
        if bound is None:
            raise UserError(f"{one.path}: is bound to no target, so nothing says what it goes with. Write a recipe.")
        return bound
    if one.manifest.kind != "lora":
        return loading.identify(ModelConfig(one.path))
    base = bound or loading.identify(config.parse(ModelConfig, one.manifest.base, f"{one.path}: key 'base'"))
    return {**base, "adapters": [*base["adapters"], one.digest]}


def _composition(identity: Identity, group: Sequence[Given], given: Sequence[Given], temperature: float) -> Composition:
    target = _model(identity, group, given)
    drafts = _Drafts(group, target)
    left_out = {one.path: why for one in group if (why := _unfit(one.manifest, temperature))}
    fitting = [one for one in group if one.path not in left_out]
    return Composition(target, [method for one in fitting for method in _methods(one, drafts)], left_out)


def _model(identity: Identity, group: Sequence[Given], given: Sequence[Given]) -> Tree:
    """The target as the group's artifacts were trained with it, its adapters wherever they are now."""
    whole = [one.path for one in group if one.provides("target") and one.manifest.kind != "lora"]
    if whole:
        return {"name": whole[0], "adapters": []}
    told = [named for one in group for named in _named_targets(one.manifest)]
    model = told[0] if told else {"name": identity["name"]}
    options = {key: model[key] for key in _SAME if model.get(key) is not None}
    paths = [one.path for one in given if one.provides("target")]
    paths += [
        path for named in told for path in named.get("adapters", []) if (Path(path) / artifact.MANIFEST).is_file()
    ]
    by_digest = {artifact.digest(Path(path)): path for path in reversed(paths)}
    for digest in identity["adapters"]:
        if digest not in by_digest:
            raise UserError(
                f"{group[0].path}: its target is {identity['name']} with an adapter whose SHA-256 is {digest[:12]}..., "
                "and none of the directories is that adapter. Name its directory too."
            )
    return {"name": model["name"], **options, "adapters": [by_digest[digest] for digest in identity["adapters"]]}


def _named_targets(manifest: Manifest) -> list[Tree]:
    """What the manifest calls its target, in a program's words: a name as here, not that of a hub's repository."""
    found = [manifest.composes.get("target"), manifest.recipe.get("config", {}).get("target")]
    if manifest.kind == "lora" and "target" in manifest.provides:
        found.append(manifest.base)
    return [one for one in found if isinstance(one, dict) and one.get("name")]


def _unfit(manifest: Manifest, temperature: float) -> str | None:
    """Why an artifact has no place in a run at this temperature, and how to have it."""
    trained = manifest.recipe.get("config", {}).get("temperature")
    if manifest.kind == gate.KIND and temperature > 0:
        why, wanted = "a consensus gate decodes greedily", 0.0
    elif {"length", "accept"} & {*manifest.provides} and trained not in (None, temperature):
        why, wanted = f"trained at temperature {trained:g}", float(trained)
    else:
        return None
    here = f"sampling.temperature is {temperature:g}"
    return f"{why}; {here}. To have it run once more with sampling.temperature={wanted} and another out=DIR"


def _methods(one: Given, drafts: "_Drafts") -> list[Tree]:
    if "proposer" in one.manifest.composes:
        pieces = one.manifest.pieces(one.path)
        pieces["proposer"] = _placed(one, one.manifest.composes["proposer"], drafts)
        if one.manifest.kind == policy.KIND:
            return [_in_order(one, pieces, order) for order in _orders(one, pieces["length"]["kappa"])]
        return [{"name": one.name, **pieces}]
    if one.provides("target"):
        return []
    if one.provides("draft"):
        return [{"name": one.name, "proposer": {"type": "draft_model", "model": {"name": one.path}}}]
    if one.provides("proposer") and one.manifest.kind in registry.names("proposers"):
        return [{"name": one.name, "proposer": {"type": one.manifest.kind, "head": one.path}}]
    slots = ", ".join(one.manifest.provides) or "nothing"
    raise UserError(f"{one.path}: of kind '{one.manifest.kind}', provides {slots}: no method is known that it makes.")


def _orders(one: Given, kappa: float) -> list[str]:
    """A policy's joint solution and its cascades, of those that it has at this kappa."""
    solved = {solution.order for solution in policy.read(Path(one.path)).solutions if solution.kappa == kappa}
    return [order for order in policy.ORDERS if order in solved]


def _in_order(one: Given, pieces: Tree, order: str) -> Tree:
    name = one.name if order == policy.ORDERS[0] else f"{one.name}-{order}"
    return {"name": name, **pieces, **{slot: {**pieces[slot], "order": order} for slot in ("length", "accept")}}


def _placed(one: Given, node: Any, drafts: "_Drafts") -> Any:
    """The proposer's node with its own directory, and with those of its drafts, where they are now."""
    bound = iter([identity["fingerprint"] for role, identity in one.manifest.binds.items() if role != "target"])

    def place(name: str) -> str:
        if name == _ITSELF:
            return one.path
        weights = next(bound, None)  # drafts are bound in the order in which the node names them
        return name if name == loading.TARGET else drafts.find(one, name, weights)

    return _renamed(node, place)


def _renamed(node: Any, place: Callable[[str], str]) -> Any:
    """With another name for each directory or model in it."""
    if not isinstance(node, dict):
        return node
    return {
        key: place(value) if key in _NAMES and isinstance(value, str) else _renamed(value, place)
        for key, value in node.items()
    }


class _Drafts:
    """The drafts among the artifacts of one target."""

    def __init__(self, group: Sequence[Given], target: Tree) -> None:
        self._all = [one for one in group if one.provides("draft") or _is_head(one)]
        self._target = target

    def find(self, one: Given, name: str, weights: str | None) -> str:
        """The directory of a draft. weights: the digest of those that `one` was trained with; None: any will do."""
        same = [other for other in self._all if other.name == Path(name).name]
        # Of a whole draft they are compared once it is loaded, before anything is decoded
        fitting = [other for other in same if other.provides("draft") or weights in (None, other.digest)]
        fitting = fitting or [other for other in self._all if weights is not None and self._weights(other) == weights]
        if fitting:
            return fitting[0].path
        if same:
            raise UserError(
                f"{one.path}: was trained with the draft {name}, weights {weights[:12]}...; those of "
                f"{same[0].path} are others. Train it again for these, or name the directory of the former ones."
            )
        if not _is_there(name):
            raise UserError(
                f"{one.path}: was trained with the draft {name}, which is not there, and none of the directories has "
                "its weights. Name the draft's directory too."
            )
        return name

    @functools.cached_property
    def _models(self) -> Models:
        return Models(config.parse(ModelConfig, self._target, "target"))

    def _weights(self, draft: Given) -> str:
        """What is bound to this draft has it in its manifest."""
        if _is_head(draft):
            return draft.digest
        self._models.load(ModelConfig(draft.path))
        return self._models.fingerprint(ModelConfig(draft.path))


def _is_head(one: Given) -> bool:
    """Drafts on its own: no gate between drafts."""
    return one.provides("proposer") and not one.manifest.composes


def _is_there(name: str) -> bool:
    """A name may be one of a hub's, unless it lies in a directory that is on this machine."""
    place = Path(name).parent
    return Path(name).is_dir() or (binding.repository(name) is not None and (place == Path() or not place.is_dir()))
