"""Role and type -> module. A file's name is its registry key: adding a piece is adding one file.

A piece module exports `Config` (a dataclass) and `build`. Files that start with `_` are helpers, not pieces.
Listing reads file names and docstrings only, so that it stays fast and never imports torch.
"""

import ast
import difflib
import importlib
from pathlib import Path
from types import ModuleType

from toolkit.errors import UserError

ROLES = ("proposers", "lengths", "acceptance", "routers", "tasks")
_TOOLKIT = Path(__file__).parent


def names(role: str) -> list[str]:
    """The types that a role has."""
    return sorted(path.stem for path in (_TOOLKIT / role).glob("*.py") if not path.stem.startswith("_"))


def describe(role: str, type: str) -> str:
    """The first line of the piece's docstring, read without importing it."""
    docstring = ast.get_docstring(ast.parse((_TOOLKIT / role / f"{type}.py").read_text(encoding="utf-8")))
    return docstring.splitlines()[0] if docstring else ""


def load(role: str, type: str, where: str = "recipe") -> ModuleType:
    """The module of a piece. `where` names the place in the recipe, for the error."""
    known = names(role)
    if type not in known:
        raise UserError(
            f"{where}: unknown type '{type}' in {role}.{nearest(type, known)} What exists: {listed(known)}."
        )
    return importlib.import_module(f"toolkit.{role}.{type}")


def nearest(word: str, known: list[str]) -> str:
    """' Did you mean ...?', or nothing when nothing is near."""
    near = difflib.get_close_matches(word, known, n=2)
    return f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""


def listed(known: list[str]) -> str:
    return ", ".join(known) or "nothing"
