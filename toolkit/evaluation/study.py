"""`python -m eval.study RECIPE`: one eval recipe under every combination of some changes, and one table of them all.

`axes` name the changes: each value of an axis is a list of overrides of `recipe`. Every cell is an ordinary eval run in
a directory of its own, so a killed study goes on and each cell can be looked into. `compare` sets two values of an axis
side by side over the same prompts: accuracy, acceptance, and seconds per correct answer, with paired intervals.
Under `accelerate launch` the processes share each cell's quality set; the first one writes the table.
`matrix` does so with methods: drafts that are named as the values of an axis (see study_matrix).
"""

import itertools
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from toolkit import config
from toolkit.errors import UserError
from toolkit.evaluation import recipe as recipes
from toolkit.evaluation import run, study_matrix, study_table
from toolkit.evaluation.compare import Side, compare
from toolkit.evaluation.ranks import joined
from toolkit.evaluation.study_matrix import MatrixConfig
from toolkit.evaluation.study_table import Cell
from toolkit.files import finite, write_atomic, write_json


@dataclass
class CompareConfig:
    axis: str
    base: str  # a value of the axis
    other: str  # the value that is compared with it: differences are other - base, ratios other / base
    # Cells are timed one after another. `forwards` counts time in the cell's own AR forwards, which cancels a machine
    # that got slower in between; right where both targets are equally large
    unit: Literal["seconds", "forwards"] = "seconds"


@dataclass
class StudyRecipe:
    recipe: str  # the eval recipe that all cells share
    axes: dict[str, dict[str, list[str]]]  # axis -> value -> overrides; later axes win
    compare: CompareConfig | None = None
    matrix: MatrixConfig | None = None
    out: str | None = None  # null: results/<name of the recipe's file>
    title: str = field(default="")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study that the arguments name -> the exit code."""
    does = "One recipe under every combination of changes."
    return config.program("eval.study", does, argv, _load_and_run, "out=DIR, or for every cell: as speed.prompts=0")


def _load_and_run(path: str, overrides: list[str]) -> int:
    """Overrides are the study's own where they name one of its keys, else every cell's."""
    own = {"recipe", "axes", "compare", "matrix", "out", "title"}
    mine = [text for text in overrides if text.partition("=")[0].partition(".")[0] in own]
    study = config.load(StudyRecipe, path, mine)
    _check(study, path)
    return _run(study, path, [text for text in overrides if text not in mine])


def _run(study: StudyRecipe, source: str, overrides: list[str]) -> int:
    out = Path(study.out or f"results/{Path(source).stem}")
    named = list(itertools.product(*(axis.items() for axis in study.axes.values())))
    planned = []
    for combination in named:
        values = tuple(value for value, _ in combination)
        changes = [change for _, list_ in combination for change in list_]
        where = [f"out={out / '-'.join(values)}"]
        recipe = recipes.load(study.recipe, [*changes, *overrides, *where])  # all are checked before the first runs
        once = (recipe.speed.repeats, len(recipe.seeds)) == (1, 1)
        if study.compare and not (once and recipe.speed.batch == 1):
            raise UserError(f"{source}: key 'compare' takes speed.batch: 1, speed.repeats: 1 and one seed, so far.")
        if study.matrix:
            if not once:
                raise UserError(f"{source}: key 'matrix' takes speed.repeats: 1 and one seed, so far.")
            methods = list(recipes.contenders(recipe, study.recipe))
            study_matrix.check(study.matrix, study.axes, methods, source)
        planned.append((values, recipe))
    cells, code, ranks = [], 0, joined()
    for number, (values, recipe) in enumerate(planned, start=1):
        if ranks.first:
            print(f"cell {number} of {len(planned)}: {', '.join(values)}", file=sys.stderr, flush=True)
        ended, rows = run.measured(recipe, study.recipe, ranks)
        code = max(code, ended)
        cells.append(Cell(values, Path(recipe.out), rows))
    if ranks.first:
        _summarise(study, source, out, cells)
    return code


def _summarise(study: StudyRecipe, source: str, out: Path, cells: Sequence[Cell]) -> None:
    comparisons = list(_comparisons(study, cells)) if study.compare else []
    axes = list(study.axes)
    tables = study_table.tables(axes, cells, study.compare, comparisons)
    written = study_table.as_json(source, axes, cells, comparisons)
    if study.matrix:
        entries = study_matrix.of(study.matrix, axes, cells)
        tables.append(study_matrix.table(study.matrix, axes, entries))
        written |= {"matrix": finite(entries)}
    write_json(out / "study.json", written)
    write_atomic(out / "study.md", study_table.markdown(study.title or Path(source).stem, tables).encode())
    study_table.pictures(out, cells)
    study_table.show(tables)
    print(f"In {out}: {', '.join(sorted(path.name for path in out.glob('study*')))}")


def _comparisons(study: StudyRecipe, cells: Sequence[Cell]) -> list[dict]:
    """Both sides of each pair of cells that differ in the compared axis only, method by method."""
    place = list(study.axes).index(study.compare.axis)
    by_values = {cell.values: cell for cell in cells}
    found = []
    for values, cell in by_values.items():
        if values[place] != study.compare.base:
            continue
        twin = by_values[(*values[:place], study.compare.other, *values[place + 1 :])]
        rest = (*values[:place], *values[place + 1 :])
        for method in cell.methods():
            if method in twin.methods():
                base, other = (Side.of(one.rows, method) for one in (cell, twin))
                named = {"cell": list(rest), "method": method, "metric": cell.metric}
                found.append(named | asdict(compare(base, other, study.compare.unit)))
    return found


def _check(study: StudyRecipe, where: str) -> None:
    for axis, values in study.axes.items():
        if not values:
            raise UserError(f"{where}: key 'axes.{axis}' is empty; expected names with lists of overrides.")
    pair = study.compare
    if pair and (pair.axis not in study.axes or not {pair.base, pair.other} <= study.axes[pair.axis].keys()):
        raise UserError(
            f"{where}: key 'compare' names axis '{pair.axis}' with '{pair.base}' and '{pair.other}'; expected an axis "
            f"of {', '.join(study.axes)} and two of its values."
        )
