"""Which of some points are worth having: the front, its hypervolume, and what it has at a given height of speed.

More is better in every column. A point is dominated where another one is at least as good in all columns and better in
one, so equal points do not dominate each other. Estimates decide; what intervals say of it is for the caller to say.
"""

from dataclasses import dataclass

import numpy as np


def dominates(points: np.ndarray) -> np.ndarray:
    """[n, d] -> [n, n] bool: does the point of the row dominate that of the column?"""
    least = (points[:, None] >= points[None]).all(-1)
    return least & (points[:, None] > points[None]).any(-1)


def front(points: np.ndarray) -> np.ndarray:
    """[n, d] -> [n] bool: is each dominated by nobody? A point with a NaN is on no front."""
    return ~dominates(points).any(0) & ~np.isnan(points).any(-1)


def hypervolume(points: np.ndarray, reference: tuple[float, float]) -> float:
    """[n, 2] -> the area of what is dominated by some point, and better than the reference in both columns."""
    area, height = 0.0, reference[1]
    better = points[(points > np.asarray(reference)).all(-1)]  # NaN is not
    for x, y in sorted(better.tolist(), reverse=True):  # fastest first: each adds what lies above those before it
        if y > height:
            area += (x - reference[0]) * (y - height)
            height = y
    return area


@dataclass(frozen=True)
class AtSpeed:
    """What a front has at a speed.

    cell: of the points at least as fast the most accurate, None where nobody is as fast. accuracy: in a straight line
    between the two points around the speed, as a mixture of them would have it.
    """

    cell: int | None
    accuracy: float | None


def at_speed(points: np.ndarray, speed: float) -> AtSpeed:
    """[n, 2] of speed and accuracy: what their front has at this speed."""
    kept = np.flatnonzero(front(points))
    kept = kept[np.argsort(points[kept, 0], kind="stable")]  # slow and accurate first
    fast = kept[points[kept, 0] >= speed]
    if not len(fast):
        return AtSpeed(None, None)
    # slower than all of them: the most accurate one is as accurate as it gets
    return AtSpeed(int(fast[0]), float(np.interp(speed, points[kept, 0], points[kept, 1])))
