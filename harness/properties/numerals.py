"""Numbers in messages: as many digits as it takes to see that two of them differ."""

from __future__ import annotations

from collections.abc import Callable

_MOST_DIGITS = 17  # enough for any float64


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
