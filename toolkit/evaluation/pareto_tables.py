"""The tables of `eval.compare`: every method and its standing, hypervolumes, and families at equal speed."""

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby

from toolkit.evaluation.paired import Paired
from toolkit.evaluation.pareto_points import AtTheSpeedOf, Point, Volume, overlap
from toolkit.evaluation.stats import FEWEST_BLOCKS, SURE, Interval
from toolkit.evaluation.table import Table
from toolkit.export.figures import NONE, bounds, number, percent, share, times


def methods(found: Sequence[Point], beaten: Mapping[str, Point]) -> Table:
    """`beaten`: who is dominated -> by whom."""
    columns = ["method", "exact", "accuracy [95%]", "lost / gained", "difference [95%]", "p", "verdict"]
    columns += ["tok/s", "speedup [95%]", "tau", "calls / token", "D", "front"]
    rows = [
        [
            f"{point.method} (control)" if point.control else point.method,
            "yes" if point.lossless else "no",
            _interval(point.accuracy, share),
            f"{point.paired.lost} / {point.paired.gained}" if point.paired else NONE,
            _difference(point.paired),
            _p(point.paired.p if point.paired else None),
            point.paired.verdict if point.paired else NONE,
            number(point.speed.tokens_per_second if point.speed else None, 1),
            _interval(point.speedup, times),
            number(point.speed.tau if point.speed else None, 2),
            number(point.quality.calls_per_token if point.quality else None, 3),
            number(point.quality.divergence if point.quality else None, 3),
            standing(point, beaten),
        ]
        for point in found
    ]
    notes = [
        "accuracy: quality set, Wilson interval over prompts; a lossless method has the baseline's. lost / gained, "
        f"difference, p: beside the baseline's answers to the same prompts, paired bootstrap and McNemar's exact test, "
        f"which shows no difference where p > {SURE}",
        "speedup: speed set, over the baseline timed beside the method, bootstrap over blocks of prompts",
        "tau: emitted tokens / the target's forwards after prefill, speed set; calls / token: those forwards / emitted "
        "tokens, over all problems of the quality set, where a lossless method was not run",
        "front: by the estimates. Below: another method is at least as fast and as accurate, and better in one; ~ "
        "names what the two intervals overlap in, so that it may be chance",
        *_no_places(found),
    ]
    sizes = [f"accuracy n={n}" for n in sorted({point.quality.n for point in found if point.quality})]
    sizes += [f"speed n={n}" for n in sorted({point.speed.n for point in found if point.speed})]
    return Table(f"Speed and accuracy ({', '.join(sizes)})", columns, rows, notes)


def hypervolumes(measured: Sequence[Volume], reference: tuple[float, float]) -> Table:
    """Of all points and of each family."""
    columns = ["of", "methods", "hypervolume [95%]"]
    rows = [[v.of, str(v.points), f"{v.value:.3f} {bounds(v.low, v.high, '.3f')}"] for v in measured]
    note = (
        f"area of speedup x accuracy that some method covers, beyond speedup {reference[0]:g} and accuracy "
        f"{reference[1]:g}; bootstrap over prompts ({FEWEST_BLOCKS} blocks or more). The best of many noisy points "
        "looks better than it is, the more so the more points: compare families of like size"
    )
    return Table("Hypervolume", columns, rows, [note])


def equal_speed(beside: Sequence[AtTheSpeedOf]) -> Table:
    """A block of rows for each method: itself, and what each family has at its speed."""
    columns = ["at the speed of", "family", "method", "speedup [95%]", "accuracy [95%]", "target calls / token"]
    columns += ["interpolated", "difference [95%]", "lost / gained", "p"]
    rows = []
    for name, looked in groupby(beside, lambda one: one.reference.method):
        looked = list(looked)
        rows.append([name, "itself", *_figures(looked[0].reference), *[NONE] * 4])
        for one in looked:
            row = [name, one.family, *(["nobody as fast", *[NONE] * 3] if one.cell is None else _figures(one.cell))]
            row += [percent(one.interpolated), _difference(one.paired)]
            rows.append(
                [*row, *([f"{one.paired.lost} / {one.paired.gained}", _p(one.paired.p)] if one.paired else [NONE] * 2)]
            )
    tests = sum(one.paired is not None for one in beside)
    notes = [
        "each family's method: of those at least as fast, by the estimates, the most accurate; what is lossless is one "
        "family. interpolated: no method's accuracy, but that of the straight line between neighbours on its front",
        "target calls / token: its forwards after prefill over emitted tokens, speed set. Of a gated method it is the "
        "fallback rate: every call gives one token, and no other token is the target's",
        "difference: the accuracy of the method at whose speed we are less the family's, bootstrap over prompts that "
        "both answered; lost / gained: right in the family's and wrong in the method / the reverse; p: McNemar's test",
        "picked by this table; not corrected: a family's method is the best of its cells by the very answers that it "
        f"is compared with, so p and intervals flatter the family; nor are they corrected for {tests} comparisons",
        "controls: (exact) emits what plain speculative decoding does, as a judge at threshold 0; (control) accepts "
        "everything, as one at threshold 1",
    ]
    return Table("At equal speed", columns, rows, notes)


def _figures(point: Point) -> list[str]:
    """A method's name, marked where it is a control or exact, and its figures."""
    mark = " (control)" if point.control else " (exact)" if point.lossless else ""
    shown = [_interval(point.speedup, times), _interval(point.accuracy, share), number(point.calls, 3)]
    return [point.method + mark, *shown]


def _interval(found: Interval | None, form: Callable[[float, float, float], str]) -> str:
    return NONE if found is None else form(found.value, found.low, found.high)


def _difference(paired: Paired | None) -> str:
    if paired is None:
        return NONE
    found = paired.difference
    return f"{100 * found.value:+.1f} {bounds(found.low, found.high, '+.1f', 100)}"


def _p(p: float | None) -> str:
    return NONE if p is None else f"{p:.2g}"


def standing(point: Point, beaten: Mapping[str, Point]) -> str:
    """On the front, or below whom, and in what that may be chance."""
    if not point.placed:
        return "no place"
    winner = beaten.get(point.method)
    if winner is None:
        return "front"
    close = overlap(point, winner)
    return f"below {winner.method}" + (f" ~{', '.join(close)}" if close else "")


def _no_places(found: Sequence[Point]) -> list[str]:
    """Who is not in the picture, and why; where nobody was timed, that once."""
    if not any(point.speed for point in found):
        return [
            "no place for any method: there is no speed set here. Time one with `python -m eval RECIPE out=DIR "
            "speed.prompts=24 quality.enabled=false`, and compare both directories"
        ]
    return [f"no place: {point.method}: {_missing(point)}" for point in found if not point.placed]


def _missing(point: Point) -> str:
    """Why a point has no place."""
    if point.untimed:
        return f"not timed: {point.untimed}"
    return "its quality was not measured" if point.accuracy is None else "no block that the baseline decoded alike"
