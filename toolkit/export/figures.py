"""Figures as text, for every table: rounded for reading, never computed. What is not known is a dash."""

import math

NONE = "–"


def number(value: float | None, digits: int, scale: float = 1.0) -> str:
    return NONE if value is None else f"{value * scale:,.{digits}f}"


def percent(value: float | None) -> str:
    return NONE if value is None else f"{value:.1%}"


def share(value: float, low: float | None, high: float | None) -> str:
    """`53.7% [46.8, 60.5]`."""
    return f"{value:.1%} {bounds(low, high, '.1f', 100)}"


def times(value: float, low: float | None, high: float | None) -> str:
    """`1.42x [1.31, 1.52]`."""
    return f"{value:.2f}x {bounds(low, high, '.2f')}"


def bounds(low: float | None, high: float | None, form: str, scale: float = 1.0) -> str:
    """`[1.31, 1.52]`; bounds that are NaN or None are not known."""
    if low is None or high is None or math.isnan(low):
        return f"[{NONE}]"
    return f"[{scale * low:{form}}, {'∞' if math.isinf(high) else f'{scale * high:{form}}'}]"
