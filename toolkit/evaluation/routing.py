"""What a router's choices were worth: beside always the same draft, a lot, and the draft that was fastest each time.

regret = mean over prompts of (milliseconds a token as routed - those of the fastest draft on that prompt). The fastest
is known afterwards only, and by one noisy timing: it is a bound that no router reaches. gain = time of the best single
draft over time as routed; above 1 the router paid. Intervals resample prompts.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from toolkit.evaluation import stats
from toolkit.evaluation.stats import Interval
from toolkit.files import finite


@dataclass(frozen=True)
class Outcomes:
    """Prompts, what each draft took on them, and what a router made of it."""

    names: Sequence[str]  # of the drafts
    domains: Sequence[str]  # [n]
    ms: np.ndarray  # [n, D] milliseconds a token under each draft
    chosen: np.ndarray  # [n] int
    spent: np.ndarray  # [n] milliseconds a token as routed: `ms` of the choice, or measured with the routing itself

    @property
    def oracle(self) -> np.ndarray:
        """[n] the fastest draft."""
        return self.ms.argmin(1)


def report(found: Outcomes, single: int | None = None) -> dict[str, Any]:
    """single: the draft that was best where the router was trained; None: the one that is best on these prompts."""
    means = found.ms.mean(0)
    best_here = int(means.argmin())
    single = best_here if single is None else single
    least = found.ms.min(1)
    controls = {
        "single": found.ms[:, single],
        "single_best_here": found.ms[:, best_here],
        "random": found.ms.mean(1),  # its expectation
        "oracle": least,
    }
    rows, columns = np.arange(len(found.ms)), found.chosen
    confusion = np.zeros((len(found.names),) * 2, dtype=int)
    np.add.at(confusion, (found.oracle, columns), 1)
    return finite(
        {
            "prompts": len(found.ms),
            "drafts": list(found.names),
            "single": found.names[single],
            "single_best_here": found.names[best_here],
            "ms": {"routed": float(found.spent.mean())} | {name: float(one.mean()) for name, one in controls.items()},
            "ms_by_draft": dict(zip(found.names, map(float, means), strict=True)),
            "regret": {"routed": asdict(interval(found.spent - least))}
            | {name: asdict(interval(one - least)) for name, one in controls.items() if name != "oracle"},
            "regret_of_choice": asdict(interval(found.ms[rows, columns] - least)),  # the routing itself left out
            "gain": asdict(ratio(found.ms[:, single], found.spent)),
            "gain_best_here": asdict(ratio(found.ms[:, best_here], found.spent)),
            "gain_of_oracle": asdict(ratio(found.ms[:, best_here], least)),
            "right": float((found.chosen == found.oracle).mean()),
            "shares": shares(found.names, found.domains, found.chosen),
            "oracle_shares": shares(found.names, found.domains, found.oracle),
            "confusion": confusion.tolist(),  # [oracle][chosen]
            "never_fastest": [name for i, name in enumerate(found.names) if not (found.oracle == i).any()],
        }
    )


def shares(names: Sequence[str], domains: Sequence[str], chosen: np.ndarray) -> dict[str, dict[str, float]]:
    """Domain -> draft -> share of its prompts."""
    of = np.array(domains)
    return {
        domain: {name: float((chosen[of == domain] == i).mean()) for i, name in enumerate(names)}
        for domain in sorted(set(domains))
    }


def interval(values: np.ndarray) -> Interval:
    """The mean, and its bounds; NaN where there are too few prompts for these to say anything of others."""
    return ratio(values, np.ones_like(values))


def ratio(above: np.ndarray, below: np.ndarray) -> Interval:
    """Of the sums, resampled together."""
    return stats.ratio(np.stack([above, below], axis=1))
