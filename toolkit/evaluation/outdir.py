"""The output directory: one process at a time, one recipe for good.

`run.json` says whose directory it is: the target, the sampling, the task and each method's pieces. A recipe with more
methods, prompts or seeds may go on in it; one that differs in what its rows depend on may not, because its rows would
stand beside others that cannot be compared with them. `recipe.yaml` is the whole recipe, as it was last run.
"""

import json
from pathlib import Path
from typing import Any

import yaml

from toolkit.errors import UserError
from toolkit.files import OutputDirectory, write_atomic, write_json

Identity = dict[str, object]
RECIPE, RUN, RECORDS, PROMPTS = "recipe.yaml", "run.json", "records.jsonl", "prompts.jsonl"
PARTS, RESULTS = "parts", "results.json"


class OutDir(OutputDirectory):
    """`with OutDir(path, source, identity) as out:` holds the lock; UserError when it is another's."""

    def __init__(self, path: Path, source: str, identity: Identity) -> None:
        super().__init__(path)
        self.source = source
        self.records, self.results = path / RECORDS, path / RESULTS
        self._marker = path / RUN
        self._identity = json.loads(json.dumps(identity))  # as it reads when it comes back from the file
        self.sessions: list[dict] = []

    def add_session(self, session: dict) -> None:
        """Who writes rows from now on, on which machine."""
        self.sessions.append(session)
        self._save()

    def keep_recipe(self, recipe: dict[str, Any]) -> None:
        """Beside its results, with all overrides: `python -m eval DIR/recipe.yaml` goes on, or shows them again."""
        text = yaml.safe_dump({**recipe, "out": str(self.path)}, sort_keys=False, allow_unicode=True, width=1000)
        write_atomic(self.path / RECIPE, f"# python -m eval {self.path / RECIPE}\n{text}".encode())

    def _open(self) -> None:
        if not self._marker.exists():
            if self.records.exists():
                raise UserError(self._foreign("a records.jsonl, but no run.json that says whose rows they are"))
            return
        try:
            marker = json.loads(self._marker.read_text(encoding="utf-8"))
            source, identity, self.sessions = marker["recipe"], marker["identity"], marker["sessions"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self._marker}: not readable ({error!r}). {self._fix()}") from error
        differs = difference(identity, self._identity)
        if differs:
            key, there, here = differs
            mismatch = f"{key} is {there} there, {here} in {self.source}"
            raise UserError(self._foreign(f"the rows of another recipe, {source}: {mismatch}"))
        self._identity["methods"] = {**identity["methods"], **self._identity["methods"]}

    def _foreign(self, holds: str) -> str:
        return f"out={self.path}: holds {holds}. {self._fix()}"

    def _fix(self) -> str:
        return f"Choose another out=DIR, or delete {self.path}."

    def _save(self) -> None:
        write_json(self._marker, {"recipe": self.source, "identity": self._identity, "sessions": self.sessions})


def difference(there: Identity, here: Identity) -> tuple[str, str, str] | None:
    """The first key whose values differ. Methods that only one of the two has do not matter."""
    old, new = flat(there), flat(here)
    shared = there["methods"].keys() & here["methods"].keys()
    for path in sorted(old.keys() | new.keys()):
        if (path[0] != "methods" or path[1] in shared) and old.get(path) != new.get(path):
            return ".".join(path), repr(old.get(path)), repr(new.get(path))
    return None


def flat(node: object, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], object]:
    """The leaves of nested mappings, by their paths."""
    if not isinstance(node, dict):
        return {path: node}
    return {key: value for name, inner in node.items() for key, value in flat(inner, (*path, name)).items()}
