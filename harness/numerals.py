"""Numbers as people read them, with as many digits as it takes to see that two differ; compared with NaN in mind."""

from __future__ import annotations

import math
from collections.abc import Callable

_MOST_DIGITS = 17  # enough for any float64


def largest(*values: float) -> float:
    """The largest of them; NaN where one is, which ``max`` may pass over."""
    return math.nan if any(math.isnan(value) for value in values) else max(values)


def told_apart(first: float, second: float, digits: int = 3) -> tuple[str, str]:
    """Both numbers with ``digits`` significant digits, or as many more as it takes to tell them apart."""
    return _apart(first, second, digits, lambda value, count: f"{value:.{count}g}")


def shares_told_apart(first: float, second: float, decimals: int = 1) -> tuple[str, str]:
    """Likewise as percentages, with ``decimals`` or more digits behind the point."""
    return _apart(first, second, decimals, lambda value, count: f"{value:.{count}%}")


def _apart(first: float, second: float, digits: int, written: Callable[[float, int], str]) -> tuple[str, str]:
    first, second = float(first), float(second)
    for count in range(digits, _MOST_DIGITS + 1):
        both = written(first, count), written(second, count)
        if both[0] != both[1]:
            return both
    return written(first, digits), written(second, digits)
