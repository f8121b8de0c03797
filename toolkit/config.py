"""Recipes: YAML and `key=value` overrides -> strict dataclasses; and the command line that takes them.

A recipe that is wrong must fail before anything is loaded, with the file, the line, the full key and what was
meant. Keys are checked here against the dataclass; values are converted and type-checked by OmegaConf.
Two spellings save typing: a bare string stands for a dataclass whose first field is a string (`target: gpt2` is
`target: {name: gpt2}`) and for a piece without options (`proposer: ngram` is `proposer: {type: ngram}`).
"""

import argparse
import copy
import dataclasses
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from toolkit import registry
from toolkit.errors import UserError, exit_code

T = TypeVar("T")


class _Problem(Exception):
    """What is wrong at which key; whoever knows the file turns it into a UserError."""

    def __init__(self, key: str, what: str) -> None:
        super().__init__(what)
        self.key, self.what = key, what


def program(
    name: str, does: str, argv: Sequence[str] | None, work: Callable[[str, list[str]], int | None], example: str
) -> int:
    """The command line `NAME RECIPE [key=value ...]`: `work` on the recipe's path and the overrides -> exit code.

    What a killed run has done is not done again by any of these programs.
    """
    parser = argparse.ArgumentParser(prog=name, description=does)
    parser.add_argument("recipe", help="a YAML file; its first line is the command that runs it")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=f"as {example}")
    arguments = parser.parse_args(argv)
    return exit_code(lambda: work(arguments.recipe, arguments.overrides), "the same command goes on from here")


def parse(schema: type[T], mapping: Any, where: str) -> T:
    """A dataclass from plain data. `where` opens the error message."""
    try:
        return _build(schema, mapping)
    except _Problem as problem:
        raise UserError(f"{where}: {problem.what}") from None


def load(schema: type[T], path: Path | str | None, overrides: list[str]) -> T:
    """A dataclass from a YAML file (None: from nothing) and `key=value` overrides, which win."""
    path = find_recipe(path) if path is not None else None
    return changed(schema, _read(path) if path is not None else {}, overrides, path)


def changed(schema: type[T], tree: dict[str, Any], overrides: list[str], path: Path | None = None) -> T:
    """A dataclass from plain data and overrides. path: the file that the data are of."""
    tree = copy.deepcopy(tree)
    for override in overrides:
        _set(tree, override, schema)
    try:
        return _build(schema, tree)
    except _Problem as problem:
        raise UserError(f"{_origin(path, problem.key, overrides)}: {problem.what}") from None


Rule = tuple[str, Any, Any, str]  # key, value, whether it will do (truthy), what was expected


def require(where: Path | str, rules: Sequence[Rule]) -> None:
    """Refuse values that cannot be meant: UserError names the recipe and the first key whose rule does not hold."""
    for key, value, right, expected in rules:
        if not right:
            raise UserError(f"{where}: key '{key}' is {value!r}; expected {expected}.")


def piece(role: str, node: Any, where: str) -> tuple[ModuleType, Any]:
    """The module and the config object that a piece node (`ngram` or `{type: ngram, max: 4}`) names."""
    if isinstance(node, str):
        node = {"type": node}
    if not isinstance(node, dict) or not isinstance(node.get("type"), str):
        raise UserError(f"{where}: expected a name or a mapping with a 'type', got {node!r}.")
    options = {key: value for key, value in node.items() if key != "type"}
    module = registry.load(role, node["type"], where)
    return module, parse(module.Config, options, f"{where} '{node['type']}'")


def recipes_dir() -> Path:
    """The recipes: installed with the package, or beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parent / "recipes"


def named_methods() -> list[Path]:
    """The files of the methods that recipes may name."""
    return sorted(recipes_dir().glob("eval/methods/*.yaml"))


def is_recipe(path: Path | str) -> bool:
    """Is there such a file, here or in the installed package?"""
    return any(candidate.is_file() for candidate in _places(Path(path)))


def _places(path: Path) -> list[Path]:
    """`recipes/...` is also found in the installed package."""
    return [path, recipes_dir().joinpath(*path.parts[1:])] if path.parts[:1] == ("recipes",) else [path]


def find_recipe(path: Path | str) -> Path:
    """The recipe at `path`, here or in the installed package."""
    path = Path(path)
    for candidate in _places(path):
        if candidate.is_file():
            return candidate
    near = registry.nearest(path.name, [found.name for found in recipes_dir().glob("*/**/*.yaml")])
    raise UserError(f"{path}: no such recipe file.{near}")


class _Texts(yaml.SafeLoader):
    """Dates stay texts, as OmegaConf's loader has them, which reads the files."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in known if not tag.endswith(":timestamp")]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def plain(text: str, where: str) -> Any:
    """What a text of the command line means in a recipe. `where` opens the error message."""
    try:
        return yaml.load(text, Loader=_Texts)
    except yaml.YAMLError:
        raise UserError(f"{where}: '{text}' is not a YAML value; quote it.") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        # OmegaConf's loader refuses a key that is there twice; plain YAML keeps the last one silently
        tree = OmegaConf.to_container(OmegaConf.load(path))
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}{line}: not valid YAML: {error.problem}.") from None
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable recipe: {error}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path}: a recipe is a mapping of keys to values, this is a {type(tree).__name__}.")
    return tree


def _set(tree: dict[str, Any], override: str, schema: type) -> None:
    """`a.b=v` into the tree; a bare string on the way becomes the mapping that it stands for."""
    dotted, equals, text = override.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise UserError(f"override '{override}': expected key=value, as in sampling.temperature=1.0.")
    value = plain(text, f"override '{override}'")
    node: Any = tree
    hint: Any = schema
    for depth, key in enumerate(keys):
        if isinstance(node, dict):
            hint = _hints(hint).get(key, Any)
        else:
            if not key.isdigit() or int(key) >= len(node):
                raise UserError(f"override '{override}': '{key}' is no index into {len(node)} entries.")
            key = int(key)
        if depth == len(keys) - 1:
            node[key] = value
            return
        child = node.get(key) if isinstance(node, dict) else node[key]
        if not isinstance(child, dict | list):
            kind = _dataclass_in(hint)
            node[key] = {} if child is None else {dataclasses.fields(kind)[0].name if kind else "type": child}
        node = node[key]


def _build(schema: type[T], mapping: Any) -> T:
    return _converted(schema, _shaped(schema, {} if mapping is None else mapping, ""), "")


def _converted(schema: type[T], tree: dict[str, Any], path: str) -> T:
    """Plain data with known keys -> the dataclass, its values converted and checked."""
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), tree))
    except OmegaConfBaseException as error:
        key = ".".join(part for part in (path, error.full_key) if part)
        raise _Problem(key, f"key '{key}': {str(error).splitlines()[0]}.") from None


def _shaped(schema: type, node: Any, path: str) -> dict[str, Any]:
    """The same tree with bare strings spelled out, once every key in it is known to exist."""
    fields = dataclasses.fields(schema)
    if isinstance(node, str) and _hints(schema)[fields[0].name] is str:
        return {fields[0].name: node}
    known = [field.name for field in fields]
    if not isinstance(node, dict):
        raise _Problem(path, f"key '{path}': expected a mapping with the keys {registry.listed(known)}; got {node!r}.")
    shaped = {}
    for key, value in node.items():
        full = f"{path}.{key}" if path else str(key)
        if key not in known:
            near = registry.nearest(str(key), known)
            raise _Problem(full, f"unknown key '{full}'.{near} Valid keys here: {registry.listed(known)}.")
        hint = _hints(schema)[key]
        kind = _dataclass_in(hint)
        if {typing.get_origin(hint), type(value)} == {dict, list}:  # OmegaConf's own error names no key
            expected = "a mapping" if isinstance(value, list) else "a list"
            raise _Problem(full, f"key '{full}': expected {expected}; got {value!r}.")
        if kind and isinstance(value, list) and typing.get_origin(hint) is list:
            value = [_shaped(kind, item, f"{full}.{i}") for i, item in enumerate(value)]
            for i, item in enumerate(value):  # once here, because OmegaConf's errors lose the path to a list's items
                _converted(kind, item, f"{full}.{i}")
        elif kind and value is not None:
            value = _shaped(kind, value, full)
        shaped[key] = value
    for field in fields:
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and field.name not in shaped:
            full = f"{path}.{field.name}" if path else field.name
            raise _Problem(full, f"key '{full}' is missing: it has no default, give it a value.")
    return shaped


def _hints(kind: Any) -> dict[str, Any]:
    found = _dataclass_in(kind)
    return typing.get_type_hints(found) if found else {}


def _dataclass_in(hint: Any) -> type | None:
    """D of D, `D | None` and `list[D]`."""
    kinds = [kind for kind in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(kind)]
    return kinds[0] if kinds else None


def _origin(path: Path | None, key: str, overrides: list[str]) -> str:
    """Where a key came from: the override that set it, else the file and line."""
    for override in reversed(overrides):
        name = override.partition("=")[0].strip()
        if f"{key}.".startswith(f"{name}.") or f"{name}.".startswith(f"{key}."):
            return f"override '{override}'"
    if path is None:
        return "command line"
    node = yaml.compose(path.read_text(encoding="utf-8"))
    line = 0
    for part in key.split("."):
        if isinstance(node, yaml.SequenceNode) and part.isdigit():
            node = node.value[int(part)]
        elif isinstance(node, yaml.MappingNode):
            pairs = [pair for pair in node.value if pair[0].value == part]
            if not pairs:
                break
            line, node = pairs[0][0].start_mark.line + 1, pairs[0][1]
    return f"{path}:{line}" if line else str(path)
