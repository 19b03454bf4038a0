"""Measures in words."""

from __future__ import annotations


def measure(value: float | None) -> str:
    """Three significant digits, or nothing."""
    return "" if value is None else f"{value:.3g}"
