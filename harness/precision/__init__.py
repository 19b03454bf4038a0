"""The precisions that a subject is run in."""

from harness.precision.registry import PRECISIONS, Precision, precisions_named, unavailable_reason

__all__ = ["PRECISIONS", "Precision", "precisions_named", "unavailable_reason"]
