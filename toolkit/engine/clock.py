"""Time beside a device that works by itself: what it was given may not be done when the host goes on."""

import time

import torch


def seconds(wait_for: torch.device | None = None) -> float:
    """The clock, read at once; or, with a device, when it has done all that it was given."""
    if wait_for is not None and wait_for.type == "cuda":
        torch.cuda.synchronize(wait_for)
    return time.perf_counter()
