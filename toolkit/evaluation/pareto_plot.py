"""The picture of speed and accuracy: every point with its intervals, the front as a line, who is below it hollow."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # files only: no window, no display
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.lines import Line2D  # noqa: E402

from toolkit.evaluation.pareto_points import Point  # noqa: E402
from toolkit.evaluation.plots import save  # noqa: E402
from toolkit.evaluation.stats import Interval  # noqa: E402

KINDS = {"lossless": "o", "lossy": "s", "accepts everything (control)": "*"}


def draw(placed: Sequence[Point], beaten: Mapping[str, Point], reference: tuple[float, float], *paths: Path) -> None:
    """`beaten`: who is dominated."""
    figure, axes = plt.subplots(figsize=(9, 6), layout="constrained")
    families = list(dict.fromkeys(point.family for point in placed))
    colours = plt.get_cmap("tab10" if len(families) <= 10 else "tab20")
    for point in placed:
        _mark(axes, point, colours(families.index(point.family) % colours.N), hollow=point.method in beaten)
    ahead = sorted((point for point in placed if point.method not in beaten), key=lambda point: point.xy)
    # between two points of the front only the faster one is fast enough
    axes.step(*zip(*(point.xy for point in ahead), strict=True), where="pre", color="black", linewidth=0.9, zorder=1)
    for point in ahead:
        axes.annotate(point.method, point.xy, xytext=(4, 4), textcoords="offset points", fontsize=6)
    axes.axvline(reference[0], color="grey", linewidth=0.6, linestyle=":")
    axes.set_xlabel(f"speedup over AR, 95% bootstrap (speed set, n={max(point.speed.n for point in placed)})")
    axes.set_ylabel(f"accuracy, 95% Wilson (quality set, n={max(point.quality.n for point in placed)})")
    shown = [_handle("s", label=family, colour=colours(i % colours.N)) for i, family in enumerate(families)]
    shown += [_handle(marker, label=kind) for kind, marker in KINDS.items()]
    shown += [_handle("s", label="dominated", fill="none"), Line2D([], [], color="black", label="front")]
    axes.legend(handles=shown, fontsize=7)
    save(figure, *paths)


def _mark(axes: Axes, point: Point, colour: tuple[float, ...], *, hollow: bool) -> None:
    kind = "accepts everything (control)" if point.control else "lossless" if point.lossless else "lossy"
    axes.errorbar(
        *point.xy,
        xerr=_arms(point.speedup),
        yerr=_arms(point.accuracy),
        fmt=KINDS[kind],
        color=colour,
        markerfacecolor="none" if hollow else colour,
        markersize=11 if point.control else 6,
        elinewidth=0.5,
        zorder=2,
    )


def _arms(found: Interval) -> list[list[float]]:
    """Of no length where a bound is not known, or an estimate is beyond it."""
    return [[max(0.0, found.value - found.low)], [max(0.0, found.high - found.value)]]


def _handle(marker: str, *, label: str, colour: object = "grey", fill: object = None) -> Line2D:
    return Line2D(
        [], [], marker=marker, linestyle="", color=colour, markerfacecolor=colour if fill is None else fill, label=label
    )
