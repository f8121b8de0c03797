"""`python -m eval.compare DIR... [--out DIR]`: finished evals as one picture of speed and accuracy, and its front.

Writes pareto.md, .csv, .json, .png and .pdf. What is lossy stands beside what is lossless and beside the control that
accepts everything: a rule that the control beats, or that is slower than the best lossless method, has earned nothing.
"""

import argparse
import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from toolkit import registry
from toolkit.errors import UserError, exit_code
from toolkit.evaluation import counters, pareto_plot, pareto_tables, table
from toolkit.evaluation.joined import Joined, join
from toolkit.evaluation.pareto_points import (
    AtTheSpeedOf,
    Point,
    at_the_speed_of,
    dominated,
    overlap,
    points,
    volumes,
)
from toolkit.evaluation.stats import SURE
from toolkit.files import finite, write_atomic, write_json

SCHEMA_VERSION = 1


def main(argv: Sequence[str] | None = None) -> int:
    """Compare the directories that the arguments name -> the exit code."""
    parser = argparse.ArgumentParser(prog="eval.compare", description="The accuracy-speed front of finished evals.")
    parser.add_argument("directories", nargs="+", type=Path, metavar="DIR", help="an eval's output directory")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (the first directory)")
    parser.add_argument(
        "--reference",
        nargs=2,
        type=float,
        default=(1.0, 0.0),
        metavar=("SPEEDUP", "ACCURACY"),
        help="the hypervolume counts what is better than this in both (1 0)",
    )
    parser.add_argument(
        "--at",
        nargs="+",
        metavar="METHOD",
        help="look other families up at the speed of these (lossy methods outside grids, the fastest lossless one)",
    )
    given = parser.parse_args(argv)
    return exit_code(lambda: _compare(given.directories, given.out, tuple(given.reference), given.at))


def _compare(paths: list[Path], out: Path | None, reference: tuple[float, float], at: list[str] | None) -> None:
    if len({path.resolve() for path in paths}) < len(paths):
        raise UserError(f"{', '.join(map(str, paths))}: a directory is there twice; name each once.")
    joined = join(paths)
    found = points(joined)
    placed = [point for point in found if point.placed]
    beaten = dominated(placed)
    measured = volumes(joined, placed, reference)
    beside = at_the_speed_of(joined, placed, references(found, at))
    notes = _notes(joined, found, reference, paths)
    tables = [
        pareto_tables.methods(found, beaten),
        pareto_tables.hypervolumes(measured, reference),
        pareto_tables.equal_speed(beside),
        *counters.tables([point.quality for point in found if point.quality], "quality set"),
    ]
    tables = [one for one in tables if one.rows]
    entries = [_entry(point, beaten) for point in found]
    out = out or paths[0]
    out.mkdir(parents=True, exist_ok=True)
    content = {
        "schema_version": SCHEMA_VERSION,
        "directories": [str(path) for path in paths],
        "setting": {key: value for key, value in joined.identity.items() if key != "methods"},
        "points": entries,
        "front": [point.method for point in placed if point.method not in beaten],
        "reference": {"speedup": reference[0], "accuracy": reference[1]},
        "hypervolume": [asdict(one) for one in measured],
        "at_the_speed_of": [_lookup(one) for one in beside],
        "notes": notes,
    }
    write_json(out / "pareto.json", finite(content))
    write_atomic(out / "pareto.csv", _csv(entries))
    write_atomic(out / "pareto.md", table.markdown("Speed and accuracy", tables, notes).encode())
    if placed:
        pareto_plot.draw(placed, beaten, reference, out / "pareto.png", out / "pareto.pdf")
    table.show(tables, notes)
    print(f"In {out}: {', '.join(sorted(path.name for path in out.glob('pareto.*')))}")


def references(found: Sequence[Point], at: list[str] | None = None) -> list[str]:
    """At whose speed the families are looked up."""
    by_name = {point.method: point for point in found}
    for name in at or ():
        if name not in by_name:
            near = registry.nearest(name, list(by_name))
            raise UserError(f"--at {name}: no method of these directories.{near} They have: {', '.join(by_name)}.")
        if not by_name[name].placed:
            raise UserError(f"--at {name}: has no place: {by_name[name].untimed or 'its quality was not measured'}.")
    if at is not None:
        return at
    placed = [point for point in found if point.placed]
    alone = [p.method for p in placed if p.family == p.method and not (p.lossless or p.control)]
    lossless = [point for point in placed if point.lossless]
    return [*alone, max(lossless, key=lambda point: point.xy).method] if lossless else alone


def _notes(joined: Joined, found: Sequence[Point], reference: tuple[float, float], paths: Sequence[Path]) -> list[str]:
    setting = joined.identity
    task, sampling = setting["task"], setting["sampling"]
    tests = sum(point.paired is not None for point in found)
    notes = [
        f"target {setting['target']['name']}, task {task['type']}, temperature {sampling['temperature']:g}, at most "
        f"{sampling['max_new_tokens']} tokens, chat template {'on' if setting['chat_template'] else 'off'}; from "
        f"{', '.join(map(str, paths))}",
        f"reference point of the hypervolume: speedup {reference[0]:g}, accuracy {reference[1]:g}",
    ]
    if tests > 1:
        notes.append(f"p is not corrected for {tests} comparisons: for all of them together p < {SURE / tests:.2g}")
    if not any(point.control and point.placed for point in found):
        notes.append("no control that accepts everything (topk k: all) is in the picture: add one")
    speeds = [point.speed for point in found if point.speed]
    return notes + joined.notes + table.speed_warnings(speeds)


def _entry(point: Point, beaten: dict[str, Point]) -> dict[str, Any]:
    """A point as it stands in the JSON and CSV files."""
    winner = beaten.get(point.method)
    quality, speed, paired = point.quality, point.speed, point.paired
    return {
        "method": point.method,
        "family": point.family,
        "values": point.values,
        "lossless": point.lossless,
        "control": point.control,
        "accuracy": point.accuracy and asdict(point.accuracy),
        "quality_n": quality and quality.n,
        "divergence": quality and quality.divergence,
        "counters": quality.counters if quality else {},
        "paired": paired and asdict(paired) | {"verdict": paired.verdict},
        "speedup": point.speedup and asdict(point.speedup),
        "speed_n": speed and speed.n,
        "tokens_per_second": speed and speed.tokens_per_second,
        "tau": speed and speed.tau,
        "target_calls_per_token": point.calls,
        "quality_target_calls_per_token": quality and quality.calls_per_token,
        "acceptance_rate": speed and speed.acceptance_rate,
        "front": point.placed and winner is None,
        "dominated_by": winner and winner.method,
        "overlap": winner and overlap(point, winner),
        "untimed": point.untimed,
    }


def _lookup(one: AtTheSpeedOf) -> dict[str, Any]:
    return {
        "method": one.reference.method,
        "family": one.family,
        "interpolated_accuracy": one.interpolated,
        "cell": one.cell and one.cell.method,
        "paired": one.paired and asdict(one.paired) | {"verdict": one.paired.verdict},
    }


def _csv(entries: Sequence[dict[str, Any]]) -> bytes:
    """A column a figure; what is not known is empty."""
    flat = [_flat(finite(entry)) for entry in entries]
    columns = list(dict.fromkeys(key for row in flat for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue().encode()


def _flat(node: dict[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in node.items():
        name = path if path and key == "value" else f"{path}.{key}" if path else key
        if isinstance(value, dict):
            flat |= _flat(value, name)
        elif value is not None:
            flat[name] = " ".join(value) if isinstance(value, list) else value
    return flat
