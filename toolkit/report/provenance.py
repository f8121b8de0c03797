"""Where every figure comes from: directories, commands, sessions, machines, weights, methods and data."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from toolkit.evaluation.joined import Run
from toolkit.evaluation.outdir import RECIPE, RUN, flat
from toolkit.report.page import Column, Section, Table, Value
from toolkit.report.runs import BESIDE, Group

_RUNS = [
    Column("directory", "directory"),
    Column("target", "target"),
    Column("task", "task"),
    Column("rows", "rows", "count"),
    Column("seeds", "seeds"),
    Column("speed", "speed set"),
    Column("quality", "quality set"),
    Column("command", "to run it again"),
]
_SESSIONS = [
    Column("session", "session"),
    Column("directory", "directory"),
    Column("started", "started"),
    Column("rows", "rows", "count"),
    Column("cpu", "cpu"),
    Column("gpu", "gpu"),
    Column("threads", "threads", "count"),
    Column("platform", "platform"),
    Column("python", "python"),
    Column("torch", "torch"),
    Column("transformers", "transformers"),
    Column("commit", "commit"),
    Column("changed", "changed since", help="files that differed from the commit"),
]
_MODELS = [
    Column("model", "model"),
    Column("source", "source"),
    Column("fingerprint", "fingerprint", help="SHA-256 of the weights' headers and ends, and of their adapters"),
]
_METHODS = [
    Column("directory", "directory"),
    Column("method", "method"),
    Column("proposer", "proposer"),
    Column("length", "length policy"),
    Column("accept", "acceptance rule"),
    Column("other", "weights, and what stands for null"),
]
_SETTINGS = [Column("directory", "directory"), Column("key", "key"), Column("value", "value")]


def section(groups: Sequence[Group]) -> Section | str:
    pairs = [(group, run) for group in groups for run in group.runs]
    models = {
        (name, one["source"], one["fingerprint"]): None
        for _, run in pairs
        for name, one in run.results["models"].items()
    }
    tables = [
        Table("runs", "Runs", _RUNS, [_run(group, run) for group, run in pairs]),
        Table("sessions", "Sessions", _SESSIONS, [row for _, run in pairs for row in _sessions(run)]),
        Table("models", "Models", _MODELS, [list(one) for one in models]),
        Table("methods", "Methods", _METHODS, [row for _, run in pairs for row in _methods(run)]),
        Table("settings", "Settings", _SETTINGS, [row for _, run in pairs for row in _settings(run)]),
    ]
    intro = "A session is one process that wrote rows; times of one session were measured side by side."
    return Section("provenance", "Provenance", intro, [table for table in tables if table.rows])


def _run(group: Group, run: Run) -> list[Value]:
    recipe = run.results["recipe"]
    speed, quality = recipe["speed"], recipe["quality"]
    sets = {name: len({row.prompt_id for row in run.rows if row.set == name}) for name in ("speed", "quality")}
    timed = f"{sets['speed']} prompts, batch {speed['batch']}, {speed['repeats']} repeats" if sets["speed"] else "–"
    judged = f"{sets['quality']} prompts, batch {quality['batch']}" if sets["quality"] else "–"
    seeds = ", ".join(map(str, recipe["seeds"]))
    return [str(run.path), group.target, group.task, len(run.rows), seeds, timed, judged, _command(run)]


def _command(run: Run) -> str:
    """Its whole recipe lies beside newer runs; of older ones only the file's name is known, and where it went."""
    kept = run.path / RECIPE
    if kept.is_file():
        return f"python -m eval {kept}"
    marker = json.loads((run.path / RUN).read_text(encoding="utf-8"))
    return f"python -m eval {marker['recipe']} out={run.path} (overrides are in the settings)"


def _sessions(run: Run) -> list[list[Value]]:
    counts = Counter(row.session for row in run.rows)
    found: list[list[Value]] = []
    for one in run.results["sessions"]:
        system = one["system"]
        told = [system[key] or None for key in ("cpu", "gpu", "threads", "platform", "python", "torch", "transformers")]
        state = [(system["git_sha"] or "–")[:12], bool(system["git_dirty"])]
        found.append([one["id"], str(run.path), one["started"], counts[one["id"]], *told, *state])
    return found


def _methods(run: Run) -> list[list[Value]]:
    found: list[list[Value]] = []
    for name, pieces in run.results["methods"].items():
        slots = [_words(pieces[slot]) for slot in ("proposer", "length", "accept")]
        other = {key: value for key, value in pieces.items() if key not in (*BESIDE, "proposer", "length", "accept")}
        found.append([str(run.path), name, *slots, _words(other | pieces.get("own", {}))])
    return found


def _words(piece: dict[str, Any]) -> str:
    """`draft_model, model small`: the type first, then what is set."""
    leaves = {".".join(key): value for key, value in flat(piece).items() if key and value is not None}
    kind = [str(leaves.pop("type"))] if "type" in leaves else []
    return ", ".join([*kind, *(f"{key} {_short(value)}" for key, value in leaves.items() if value not in ([], {}))])


def _short(value: object) -> str:
    """A digest is known by its beginning."""
    text = str(value)
    hexadecimal = len(text) == 64 and all(letter in "0123456789abcdef" for letter in text)
    return text[:12] if hexadecimal else text


def _settings(run: Run) -> list[list[Value]]:
    """The recipe but for its methods, and what of the target's weights rows depend on."""
    recipe = {key: value for key, value in run.results["recipe"].items() if key not in ("methods", "out")}
    leaves = {".".join(key): value for key, value in flat(recipe).items()}
    identity = {"weights": run.identity["weights"], "dtype": run.identity["target"]["dtype"]}
    found = {**leaves, **identity}
    return [[str(run.path), key, _short(value)] for key, value in found.items() if value not in (None, [], {})]
