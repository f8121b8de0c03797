"""The picture of speed and accuracy: every point with its intervals, the front named, whoever is below it pale."""

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
_LINE = 0.028  # height of a name, of the axes'
_PALE = 0.4  # opacity


def draw(placed: Sequence[Point], beaten: Mapping[str, Point], reference: tuple[float, float], *paths: Path) -> None:
    """`beaten`: who is dominated."""
    figure, axes = plt.subplots(figsize=(10, 7), layout="constrained")
    families = list(dict.fromkeys(point.family for point in placed))
    colours = plt.get_cmap("tab10" if len(families) <= 10 else "tab20")
    for point in placed:
        _mark(axes, point, colours(families.index(point.family) % colours.N), below=point.method in beaten)
    ahead = sorted((point for point in placed if point.method not in beaten), key=lambda point: point.xy)
    # between two points of the front only the faster one is fast enough
    axes.step(*zip(*(point.xy for point in ahead), strict=True), where="pre", color="black", linewidth=0.9, zorder=1)
    axes.axvline(reference[0], color="grey", linewidth=0.6, linestyle=":")
    _name(axes, ahead)
    axes.set_xlabel(f"speedup over AR, 95% bootstrap (speed set, n={max(point.speed.n for point in placed)})")
    axes.set_ylabel(f"accuracy, 95% Wilson (quality set, n={max(point.quality.n for point in placed)})")
    shown = [_handle("s", label=family, colour=colours(i % colours.N)) for i, family in enumerate(families)]
    shown += [_handle(marker, label=kind) for kind, marker in KINDS.items()]
    shown += [_handle("s", label="dominated", fill="none"), Line2D([], [], color="black", label="front")]
    figure.legend(handles=shown, fontsize=8, ncols=4, loc="outside lower center")
    save(figure, *paths)


def spread(heights: Sequence[float], least: float) -> list[float]:
    """Falling heights, within 0 and 1 -> where names go that are `least` apart or more, near theirs, in their order.

    Names that have no room so far apart are as far apart as they can be.
    """
    least = min(least, 1 / max(1, len(heights) - 1))
    found: list[float] = []
    for height in heights:
        found.append(min([height, *(above - least for above in found[-1:])]))
    floor = 0.0
    for i in reversed(range(len(found))):
        found[i] = max(found[i], floor)
        floor = found[i] + least
    return found


def _name(axes: Axes, ahead: Sequence[Point]) -> None:
    """Beside the axes, a line to each point: points may lie close, names may not. From slow and accurate on down."""
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom, top)
    places = spread([(point.xy[1] - bottom) / (top - bottom) for point in ahead], _LINE)
    for point, place in zip(ahead, places, strict=True):
        axes.annotate(
            point.method,
            point.xy,
            xytext=(1.03, place),
            textcoords="axes fraction",
            fontsize=8,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": "grey", "relpos": (0, 0.5), "shrinkB": 4},
        )


def _mark(axes: Axes, point: Point, colour: tuple[float, ...], *, below: bool) -> None:
    kind = "accepts everything (control)" if point.control else "lossless" if point.lossless else "lossy"
    axes.errorbar(
        *point.xy,
        xerr=_arms(point.speedup),
        yerr=_arms(point.accuracy),
        fmt=KINDS[kind],
        color=(*colour[:3], _PALE) if below else colour,
        markerfacecolor="none" if below else colour,
        ecolor=(0.5, 0.5, 0.5, _PALE) if below else colour,
        markersize=11 if point.control else 6,
        elinewidth=0.4,
        zorder=2 if below else 3,
    )


def _arms(found: Interval) -> list[list[float]]:
    """Of no length where a bound is not known, or an estimate is beyond it."""
    return [[max(0.0, found.value - found.low)], [max(0.0, found.high - found.value)]]


def _handle(marker: str, *, label: str, colour: object = "black", fill: object = None) -> Line2D:
    return Line2D(
        [], [], marker=marker, linestyle="", color=colour, markerfacecolor=colour if fill is None else fill, label=label
    )
