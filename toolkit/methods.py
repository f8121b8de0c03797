"""A method is a composition: proposer + length policy + acceptance rule, under a name.

Named methods are the files recipes/eval/methods/NAME.yaml. A recipe refers to one by its name, changes one
(`{name: ngram8, base: ngram, proposer: {max: 8}}`) or spells out its own. Resolving checks every piece and fills in
every default, so that a mistake shows before a model is loaded, and two spellings of one method are one method.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit import config, registry
from toolkit.engine.loop import SpecDecoder
from toolkit.engine.trace import TraceSink
from toolkit.errors import UserError
from toolkit.hub import Models

_SLOTS = {"proposer": "proposers", "length": "lengths", "accept": "acceptance"}  # key in a recipe -> role


@dataclass(frozen=True)
class MethodConfig:
    """The three pieces as nodes: a type, or a mapping with the type and its options."""

    name: str = ""
    proposer: Any = "none"
    length: Any = "fixed"
    accept: Any = "rejection"


def names() -> list[str]:
    """The named methods."""
    return [path.stem for path in config.named_methods()]


def resolve(node: Any, where: Path | str) -> MethodConfig:
    """The method that a recipe's node stands for, every piece checked and every default filled in."""
    if isinstance(node, str):
        return _complete(_named(node, where), where)
    if not isinstance(node, dict):
        raise UserError(f"{where}: a method is a name or a mapping, got {node!r}.")
    own = {key: value for key, value in node.items() if key != "base"}
    if not own.get("name"):
        raise UserError(
            f"{where}: method {node!r} needs a 'name' of its own, under which its results are filed, as in "
            "{name: ngram8, base: ngram, proposer: {max: 8}}."
        )
    if "base" in node:
        base = vars(_named(node["base"], where))
        own = {slot: _merged(base[slot], own[slot]) if slot in own else base[slot] for slot in _SLOTS} | {
            key: value for key, value in own.items() if key not in _SLOTS
        }
    return _complete(config.parse(MethodConfig, own, f"{where}: method '{own['name']}'"), where)


def decoder(
    method: MethodConfig, models: Models, *, trace: TraceSink | None = None, record_gaps: bool = False
) -> SpecDecoder:
    """The method as a decoder over the recipe's target."""
    return built(method, models, trace=trace, record_gaps=record_gaps)[0]


def built(
    method: MethodConfig, models: Models, *, trace: TraceSink | None = None, record_gaps: bool = False
) -> tuple[SpecDecoder, dict[str, dict[str, Any]]]:
    """As `decoder`, and what its pieces took where an option is null, as a judge's own threshold: by slot, if any.

    A `build` that has a value of its own for such an option writes it there.
    """
    pieces, own = {}, {}
    for slot, role in _SLOTS.items():
        module, options = config.piece(role, vars(method)[slot], f"method '{method.name}', {slot}")
        null = [key for key, value in vars(options).items() if value is None]
        pieces[slot] = module.build(options, models)
        found = {key: vars(options)[key] for key in null if vars(options)[key] is not None}
        if found:
            own[slot] = found
    return SpecDecoder(models.target, **pieces, trace=trace, record_gaps=record_gaps), own


def _complete(method: MethodConfig, where: Path | str) -> MethodConfig:
    nodes = {}
    for slot, role in _SLOTS.items():
        module, options = config.piece(role, vars(method)[slot], f"{where}: method '{method.name}', {slot}")
        nodes[slot] = {"type": module.__name__.rpartition(".")[2], **dataclasses.asdict(options)}
    return dataclasses.replace(method, **nodes)


def _merged(base: Any, change: Any) -> Any:
    """A change without a type keeps the base's; with another type it starts afresh."""
    base = {"type": base} if isinstance(base, str) else base
    if not isinstance(change, dict) or change.get("type", base["type"]) != base["type"]:
        return change
    return base | change


def _named(name: str, where: Path | str) -> MethodConfig:
    files = {path.stem: path for path in config.named_methods()}
    if name not in files:
        raise UserError(
            f"{where}: unknown method '{name}'.{registry.nearest(str(name), names())} "
            f"Named methods: {registry.listed(names())}. Or write a mapping with a name, proposer, length and accept."
        )
    return dataclasses.replace(config.load(MethodConfig, files[name], []), name=name)
