"""The runs that a report is of: output directories, read once, in groups that may stand side by side.

A group is of one target, task, sampling and template (see evaluation/joined). A study stands for its cells. Of a run
that has not ended its rows so far are shown, with a warning.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.errors import UserError
from toolkit.evaluation import joined, pareto_points
from toolkit.evaluation.joined import Joined, Run
from toolkit.evaluation.outdir import RECORDS, RESULTS, RUN, flat
from toolkit.evaluation.pareto_points import Point
from toolkit.evaluation.records import Record
from toolkit.evaluation.score import ACCURACY, Speed
from toolkit.report import unfinished

BESIDE = ("lossless", "grid", "own")  # of a method's entry in results.json: what is none of its pieces
STUDY = "study.json"
_OF_A_RUN = (RUN, RESULTS, RECORDS)
_NAMED = ("target.name", "target.adapters", "task.type")  # what a group's name says anyway


@dataclass(frozen=True)
class Group:
    """Runs of one target and task, joined. Its name is told apart from that of every other group."""

    target: str
    task: str  # with what sets it apart from other groups of this target and task, as its temperature
    runs: list[Run]
    joined: Joined
    points: list[Point]  # a method each, the baseline first
    unfinished: dict[Path, str]  # runs that have not ended -> what became of them

    @property
    def name(self) -> str:
        return f"{self.target}, {self.task}"

    @property
    def rows(self) -> list[Record]:
        return [row for run in self.runs for row in run.rows]

    @property
    def speeds(self) -> list[Speed]:
        return [point.speed for point in self.points if point.speed]

    @property
    def drafting(self) -> list[Speed]:
        return [speed for speed in self.speeds if speed.drafts]

    @property
    def temperature(self) -> float:
        return self.joined.identity["sampling"]["temperature"]

    @property
    def metrics(self) -> list[str]:
        """What its accuracy is called; [] where answers have no verdict. Older runs do not say."""
        found = [run.results.get("metric", ACCURACY) for run in self.runs]
        return list(dict.fromkeys(metric for metric in found if metric))

    @property
    def on_cuda(self) -> bool:
        return self.joined.identity["target"]["device"] == "cuda"

    def timed(self, method: str) -> list[Record]:
        """Its rows of the speed set."""
        return [row for row in self.joined.timed[method][0] if row.ok] if method in self.joined.timed else []

    def domain(self, prompt_id: str) -> str:
        """Which part of a mixed task a prompt is of (their ids begin with it); else the task."""
        mixed = self.joined.identity["task"]["type"] == "mixed"
        return prompt_id.partition("/")[0] if mixed else self.joined.identity["task"]["type"]


def read(paths: Sequence[Path]) -> list[Group]:
    """In the order of the paths. UserError where one is no output directory, or is there twice."""
    directories = [directory for path in paths for directory in _directories(path)]
    if len({path.resolve() for path in directories}) < len(directories):
        raise UserError(f"{', '.join(map(str, paths))}: a directory is there twice; name each once.")
    states = {path: state for path in directories if (state := unfinished.state(path))}
    runs = [unfinished.read(path, states[path]) if path in states else joined.read(path) for path in directories]
    sets: list[list[Run]] = []
    for run in runs:
        fitting = (one for one in sets if not any(joined.apart(other, run) for other in one))
        found = next(fitting, None)
        if found is None:
            sets.append([run])
        else:
            found.append(run)
    groups = []
    for one, (target, task) in zip(sets, _names(sets), strict=True):
        together = joined.together(one)
        left = {run.path: states[run.path] for run in one if run.path in states}
        groups.append(Group(target, task, one, together, pareto_points.points(together), left))
    return groups


def _directories(path: Path) -> list[Path]:
    """Itself, or a study's cells."""
    study = path / STUDY
    if not study.is_file():
        return [_checked(path)]
    try:
        cells = json.loads(study.read_text(encoding="utf-8"))["cells"]
        directories = [path / "-".join(cell["values"]) for cell in cells]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{study}: not the table of a study ({error!r}); run its recipe again.") from None
    return [_checked(directory) for directory in directories]


def _checked(path: Path) -> Path:
    """Itself. UserError where it is no run's; it says which are a level below."""
    if not path.is_dir():
        raise UserError(f"{path}: no such directory; expected the output directory of an eval or a study.")
    if not _is_run(path):
        below = ", ".join(sorted(one.name for one in path.iterdir() if _is_run(one) or (one / STUDY).is_file()))
        further = f" A level below there are {below}: name those that belong on one page." if below else ""
        looked = f"looked for {', '.join(_OF_A_RUN)} (an eval leaves these) and {STUDY} (a study)"
        raise UserError(f"{path}: no output directory of an eval or a study: {looked}.{further}")
    if not (path / RUN).is_file():
        raise UserError(
            f"{path}: has no {RUN}, which says whose rows these are. Delete {path}, or choose another "
            "out=DIR, and run its command again."
        )
    return path


def _is_run(path: Path) -> bool:
    return any((path / name).is_file() for name in _OF_A_RUN)


def _names(sets: Sequence[Sequence[Run]]) -> list[tuple[str, str]]:
    """(target, task) of each group; those that are called alike get what they differ in, or else their directories."""
    plain = [(_target(one[0].identity["target"]), str(one[0].identity["task"]["type"])) for one in sets]
    alike: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, name in enumerate(plain):
        alike[name].append(i)
    named = list(plain)
    for (target, task), members in alike.items():
        if len(members) < 2:
            continue
        settings = [{".".join(k): v for k, v in flat(joined.setting(sets[i][0], timed=False)).items()} for i in members]
        keys = sorted({key for one in settings for key in one if not key.startswith(("methods.", *_NAMED))})
        differing = [key for key in keys if len({repr(one.get(key)) for one in settings}) > 1]
        said = [", ".join(f"{key.rpartition('.')[2]} {_short(one.get(key))}" for key in differing) for one in settings]
        for directory in (lambda path: path.name, str):  # the same in all that is said of them: so they are named
            if len(set(said)) < len(said):
                paths = [" and ".join(directory(run.path) for run in sets[i]) for i in members]
                said = [", ".join(filter(None, [text, path])) for text, path in zip(said, paths, strict=True)]
        for i, text in zip(members, said, strict=True):
            named[i] = (target, f"{task} ({text})")
    return named


def _target(model: dict[str, Any]) -> str:
    """As short as it can be said."""
    layers = model.get("draft_from") or {}
    changed = [f"{key} {model[key]}" for key in ("quant", "revision") if model.get(key) not in (None, "none")]
    changed += ["pruned"] if layers else []
    parts = [Path(model["name"]).name if model["name"].startswith((".", "/", "~")) else model["name"]]
    return " + ".join([*parts, *(Path(name).name for name in model["adapters"]), *changed])


def _short(value: object) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 24 else f"{text[:12]}…"
