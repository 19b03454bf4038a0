"""The precisions that a subject is run in."""

from harness.precision.cuda_policy.emulation import refusing_unknown_ops
from harness.precision.registry import (
    PRECISIONS,
    Precision,
    import_guard,
    left_out,
    precisions_named,
    unavailable_reason,
)

__all__ = [
    "PRECISIONS",
    "Precision",
    "import_guard",
    "left_out",
    "precisions_named",
    "refusing_unknown_ops",
    "unavailable_reason",
]
