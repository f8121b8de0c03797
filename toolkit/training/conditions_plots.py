"""Pictures of a policy: what it does over (H, K_prev), how deep it drafts, and where the cascades do otherwise."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import BoundaryNorm

from toolkit.evaluation import plots
from toolkit.policy import Policy, Solution

_DEPTHS = (0, 2, 4)


def surfaces(path: Path, policy: Policy, solution: Solution) -> bool:
    """The action in each state at some places of the window; white: no record."""
    depths = [k for k in _DEPTHS if k < policy.bins.k_max]
    names = ["stop", *(f"T={value:g}" for value in policy.lenience)]
    seen = (policy.visits.sum(1) > 0).reshape(policy.bins.shape)
    action = np.where(seen, solution.action.reshape(policy.bins.shape), np.nan)
    figure, every = plots.plt.subplots(
        1, len(depths), figsize=(4 * len(depths) + 1, 4), layout="constrained", squeeze=False
    )
    colours = plots.plt.get_cmap("viridis", len(names))
    norm = BoundaryNorm(np.arange(len(names) + 1) - 0.5, len(names))
    for axes, k in zip(every[0], depths, strict=True):
        image = axes.imshow(action[:, :, k], origin="lower", aspect="auto", cmap=colours, norm=norm)
        axes.set_title(f"k = {k}")
        _bins(axes, policy)
    figure.colorbar(image, ax=every[0], ticks=range(len(names))).ax.set_yticklabels(names)
    figure.suptitle(f"{solution.label}: what is done in each state (white: never visited)")
    return plots.save(figure, path)


def monotonicity(path: Path, stops: np.ndarray, entropy: np.ndarray, lagged: np.ndarray, label: str) -> bool:
    """Mean length of a window, by tenths of the windows in order of H at its beginning, and of K_prev."""
    figure, every = plots.plt.subplots(1, 2, figsize=(9, 4), layout="constrained", sharey=True)
    for axes, (name, values) in zip(every, (("H", entropy), ("K_prev", lagged)), strict=True):
        groups = [group for group in np.array_split(np.argsort(values, kind="stable"), 10) if len(group)]
        depth = [stops[group].mean() for group in groups]
        error = [1.96 * stops[group].std() / np.sqrt(len(group)) for group in groups]
        axes.errorbar([values[group].mean() for group in groups], depth, yerr=error, marker="o", capsize=3)
        axes.set_xlabel(f"{name} at the beginning of the window, nats (tenths of n={len(values):,})")
    every[0].set_ylabel("tokens drafted before the stop")
    figure.suptitle(label)
    return plots.save(figure, path)


def divergence_set(path: Path, policy: Policy, joint: Solution, others: Sequence[Solution]) -> bool:
    """At how many places of the window, of those with records, each cascade does otherwise."""
    if not others:
        return False
    seen = (policy.visits.sum(1) > 0).reshape(policy.bins.shape)
    figure, every = plots.plt.subplots(
        1, len(others), figsize=(4.5 * len(others) + 1, 4), layout="constrained", squeeze=False
    )
    for axes, other in zip(every[0], others, strict=True):
        apart = (joint.action != other.action).reshape(policy.bins.shape) & seen
        count = np.where(seen.any(2), apart.sum(2), np.nan)
        image = axes.imshow(count, origin="lower", aspect="auto", vmin=0, vmax=policy.bins.k_max + 1)
        axes.set_title(f"{joint.order} / {other.order}")
        _bins(axes, policy)
    figure.colorbar(image, ax=every[0], label="depths k with another action (white: never visited)")
    return plots.save(figure, path)


def _bins(axes: "plots.plt.Axes", policy: Policy) -> None:
    """Bins are numbered on the axes, with the nats where they end."""
    for axis, edges in ((axes.yaxis, policy.bins.entropy), (axes.xaxis, policy.bins.divergence)):
        places = np.arange(len(edges))[:: len(edges) // 6 + 1]
        axis.set_ticks(places + 0.5, [f"{edges[place]:.2g}" for place in places])
    axes.set_ylabel("H, nats")
    axes.set_xlabel("K_prev, nats")
