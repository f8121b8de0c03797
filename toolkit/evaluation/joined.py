"""Finished evals side by side: the rows of one or several output directories as those of one run.

They may be joined where target, task, sampling, template and what a method is are the same; who differs is refused with
the key that does. A quality run and a speed run of one recipe fit together. A method's speed is of one directory, with
the baseline that was timed beside it.
"""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.errors import UserError
from toolkit.evaluation import records, system
from toolkit.evaluation.outdir import RECORDS, RESULTS, RUN, difference
from toolkit.evaluation.paired import Question
from toolkit.evaluation.records import Record
from toolkit.evaluation.score import BASELINE


@dataclass(frozen=True)
class Run:
    """An output directory: whose it is, its summary, and the rows of the methods in it."""

    path: Path
    identity: dict[str, Any]
    results: dict[str, Any]
    rows: list[Record]

    @property
    def timed(self) -> bool:
        return any(row.set == "speed" for row in self.rows)


@dataclass(frozen=True)
class Joined:
    """`methods`: name -> its pieces, `lossless`, `grid`; the baseline first."""

    identity: dict[str, Any]
    methods: dict[str, dict[str, Any]]
    answers: dict[str, dict[Question, Record]]  # by method: its rows of the quality set
    timed: dict[str, tuple[list[Record], list[Record]]]  # by method: its rows of the speed set, and its baseline's
    untimed: dict[str, str]  # method -> why it has none
    notes: list[str]

    def answers_of(self, method: str) -> dict[Question, Record]:
        """Its own, or of a lossless method the baseline's, which are what it would have answered."""
        own = self.answers.get(method, {})
        return own if own or not self.methods[method]["lossless"] else self.answers.get(BASELINE, {})


def read(path: Path) -> Run:
    """UserError where it is no output directory of an eval that has ended."""
    for name in (RUN, RESULTS, RECORDS):
        if not (path / name).is_file():
            raise UserError(f"{path}: has no {name}; expected the output directory of an eval that has ended.")
    try:
        identity = json.loads((path / RUN).read_text(encoding="utf-8"))["identity"]
        results = json.loads((path / RESULTS).read_text(encoding="utf-8"))
        identity["methods"], identity["speed"], results["sessions"], results["recipe"]["speed"]["max_new_tokens"]
        names = {BASELINE: results["methods"][BASELINE]} | results["methods"]
        for one in names.values():
            one["accept"]["type"], one["lossless"], one["grid"]
    except KeyError as error:
        raise UserError(
            f"{path}: an older version of draftsmith wrote it: key {error} is missing in run.json or results.json; run "
            "its recipe again."
        ) from None
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: not the output of this program ({error!r}); run its recipe again.") from None
    return Run(path, identity, results, [row for row in rows(path / RECORDS) if row.method in names])


def join(paths: Sequence[Path]) -> Joined:
    """UserError where they cannot stand beside each other."""
    return together([read(path) for path in paths])


def together(runs: Sequence[Run]) -> Joined:
    """As `join`, of directories that were read."""
    for one, other in itertools.combinations(runs, 2):
        if why := apart(one, other):
            raise UserError(why)
    methods: dict[str, dict[str, Any]] = {}
    answers: dict[str, dict[Question, Record]] = {}
    speed: dict[str, tuple[list[Record], list[Record]]] = {}
    notes = _machines(runs) + _unlisted(runs)
    for run in runs:
        for name, one in run.results["methods"].items():
            methods.setdefault(name, one)
        for row in run.rows:
            if row.set == "quality" and row.ok:
                answers.setdefault(row.method, {}).setdefault((row.prompt_id, row.seed), row)
        there = {
            name: [r for r in run.rows if r.set == "speed" and r.method == name] for name in run.results["methods"]
        }
        for name in (name for name, mine in there.items() if mine):
            if name in speed and name != BASELINE:
                notes.append(f"{name}: timed in several directories; {run.path} does not count")
            speed.setdefault(name, (there[name], there[BASELINE]))
    reasons = {name: why for run in runs for name, why in run.results.get("untimed", {}).items()}
    untimed = {name: reasons.get(name, "not in a speed set here") for name in methods if name not in speed}
    return Joined(setting(runs[0], timed=False), methods, answers, speed, untimed, notes)


def rows(path: Path) -> list[Record]:
    """Of a records.jsonl, which has to be whole."""
    found = records.read(path)
    if found.bad:
        number, _, why = found.bad[0]
        raise UserError(f"{path} line {number} is {why}; run its recipe again, which mends it.")
    return found.rows


def apart(one: Run, other: Run) -> str | None:
    """Why they cannot stand beside each other; None: they can."""
    both = one.timed and other.timed
    found = difference(setting(one, timed=both), setting(other, timed=both))
    if found:
        key, here, there = found
        return (
            f"{other.path}: {key} is {there} there, {here} in {one.path}. Expected the same target, task, sampling and "
            "template; compare them apart."
        )
    keys = {row.item: row.resume_key for row in one.rows}
    lengths = {row.prompt_id: row.prompt_tokens for row in one.rows if row.ok}
    for row in other.rows:
        if keys.get(row.item, row.resume_key) != row.resume_key or (
            row.ok and lengths.get(row.prompt_id, row.prompt_tokens) != row.prompt_tokens
        ):
            return (
                f"{other.path}: prompt '{row.prompt_id}' is of other data there than in {one.path}, or decoded with "
                "other limits; compare them apart."
            )
    return None


def setting(run: Run, *, timed: bool) -> dict[str, Any]:
    """What has to be the same. `timed`: how texts were timed as well."""
    same = run.identity | {"thinking": run.results["recipe"]["thinking"]}
    how = {**run.identity["speed"], "max_new_tokens": run.results["recipe"]["speed"]["max_new_tokens"]}
    return same | {"speed": how} if timed else {key: value for key, value in same.items() if key != "speed"}


def _machines(runs: Sequence[Run]) -> list[str]:
    """What makes speeds of several sessions suspect."""
    used = {row.session for run in runs for row in run.rows if row.set == "speed"}
    systems = [one["system"] for run in runs for one in run.results["sessions"] if one["id"] in used]
    notes = []
    if any(system.comparable(one) != system.comparable(systems[0]) for one in systems):
        notes.append("WARNING: timed on several machines (sessions in results.json): compare no times")
    versions = system.differing(systems)
    if versions:
        notes.append(f"WARNING: timed with several versions of the software: {', '.join(versions)} differ")
    if sum(run.timed for run in runs) > 1:
        notes.append("timed in several directories: each method's speedup is over the baseline of its own")
    return notes


def _unlisted(runs: Sequence[Run]) -> list[str]:
    """Rows, of either set, whose session nothing is said of."""
    notes = []
    for run in runs:
        listed = {one["id"] for one in run.results["sessions"]}
        count = sum(row.session not in listed for row in run.rows)
        if count:
            notes.append(
                f"WARNING: {run.path}: {count} rows of sessions that results.json does not list: which machine and "
                "version they are of is unknown"
            )
    return notes
