"""Two pictures: speed against accuracy, and acceptance by position."""

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # files only: no window, no display
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.ticker import MaxNLocator  # noqa: E402

from toolkit.evaluation.score import Quality, Speed  # noqa: E402
from toolkit.files import write_atomic  # noqa: E402


def speed_accuracy(path: Path, speeds: Sequence[Speed], qualities: Sequence[Quality]) -> bool:
    """Speedup over accuracy, each with its interval; the speed and quality sets' n stand on the axes."""
    accuracy = {q.method: q for q in qualities if q.accuracy and q.n}
    points = [(s, accuracy[s.method]) for s in speeds if s.method in accuracy and s.tokens_per_second]
    if not points:
        return False
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for speed, quality in points:
        x, y = quality.accuracy, speed.speedup
        height = 1.0 if y is None else y.value
        axes.errorbar(
            x.value,
            height,
            xerr=[[x.value - x.low], [x.high - x.value]],
            yerr=None if y is None else [[y.value - y.low], [y.high - y.value]],
            fmt="o" if speed.lossless else "s",
            capsize=3,
            label=f"{speed.method} ({'exact' if speed.lossless else 'lossy'})",
        )
    axes.axhline(1.0, color="grey", linewidth=0.8)
    axes.set_xlabel(f"accuracy, 95% Wilson (quality set, n={max(q.n for _, q in points)})")
    axes.set_ylabel(f"speedup over AR, 95% bootstrap (speed set, n={max(s.n for s, _ in points)})")
    axes.legend(fontsize=8)
    return save(figure, path)


def acceptance_by_position(path: Path, speeds: Sequence[Speed]) -> bool:
    """Conditional acceptance: does the draft get worse the deeper it goes?"""
    drafting = [s for s in speeds if s.conditional]
    if not drafting:
        return False
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for s in drafting:
        seen = [(i, share) for i, share in enumerate(s.conditional, start=1) if share is not None]
        axes.plot(*zip(*seen, strict=True), marker="o", label=s.method)
    axes.set_ylim(0, 1.05)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("position in the draft")
    axes.set_ylabel(f"accepted, given all before it (speed set, n={max(s.n for s in drafting)})")
    axes.legend(fontsize=8)
    return save(figure, path)


def save(figure: Figure, *paths: Path) -> bool:
    """In the format that each name ends with."""
    for path in paths:
        picture = io.BytesIO()
        figure.savefig(picture, format=path.suffix.removeprefix("."), dpi=120)
        write_atomic(path, picture.getvalue())
    plt.close(figure)
    return True
