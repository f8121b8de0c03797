"""What training a router found: each draft on each domain, the router beside its controls, and how much is noise."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from toolkit import sources
from toolkit.evaluation import routing
from toolkit.files import finite
from toolkit.training.router_collect import Tried


def matrix(tried: Tried) -> dict[str, dict[str, dict[str, Any]]]:
    """Domain -> draft -> tau, acceptance and milliseconds a token, means over prompts with their intervals."""
    ms, tau, acceptance = tried.ms().mean(1), tried.mean("tau"), tried.mean("acceptance")
    domains = np.array(tried.domains)
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for domain in sorted(set(tried.domains)):
        rows = domains == domain
        found[domain] = {
            name: {
                "prompts": int(rows.sum()),
                "tau": _mean(tau[rows, i]),
                "ms": _mean(ms[rows, i]),
                "acceptance": _mean(acceptance[rows, i][~np.isnan(acceptance[rows, i])]),
            }
            for i, name in enumerate(tried.names)
        }
    return found


def crossed_oracle(ms: np.ndarray, single: int) -> dict[str, Any] | None:
    """[n, R, D]: the fastest draft by the first half of the repeats, judged by the others; None with one repeat.

    The fastest of several noisy timings is partly luck, which the next timing does not have. What is left is what a
    router that knew every draft's true time of every prompt would gain.
    """
    if ms.shape[1] < 2:
        return None
    half = ms.shape[1] // 2
    seen, judged = ms[:, :half].mean(1), ms[:, half:].mean(1)
    chosen = seen.argmin(1)
    picked = judged[np.arange(len(ms)), chosen]
    return finite(
        {
            "ms": float(picked.mean()),
            "gain": asdict(routing.ratio(judged[:, single], picked)),
        }
    )


def show(report: Mapping[str, Any]) -> None:
    """A few lines for the screen."""
    if "test" not in report:
        return
    test = report["test"]
    times = ", ".join(f"{name} {value:.2f}" for name, value in test["ms"].items())
    regret = ", ".join(f"{name} {one['value']:.2f}" for name, one in test["regret"].items())
    sources.say(
        f"on {test['prompts']} prompts that it was not trained on, ms a token: {times} (single: {test['single']}); "
        f"regret: {regret}; fastest draft found on {test['right']:.0%}; fallback on {report['fallback_share']:.0%}"
    )
    if test["never_fastest"]:
        sources.say(f"never the fastest there: {', '.join(test['never_fastest'])}")
    if not report["taken_alone"]:
        sources.say("times were taken by several processes beside each other: take them with one to trust them")


def _mean(values: np.ndarray) -> dict[str, float | None] | None:
    """Over prompts, with its interval."""
    if len(values) == 0:
        return None
    return finite(asdict(routing.interval(values)))
