"""What ``harness watch`` may be told."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.errors import UsageError

_LARGEST = 2**28  # bytes, as a reader of bundles takes; its module would import torch
BUNDLES_DIR = ".harness/bundles"


@dataclass(frozen=True)
class WatchOptions:
    """How a training is watched.

    Attributes:
        losses: import paths of the losses, classes of modules or functions, that are watched; empty for every module
            that gives a single number with a gradient and trains nothing itself.
        low, high: the range of the named losses; ``None`` for no bound. With neither, a loss under 0 is wrong where it
            isn't in float64.
        folder: where bundles are written.
        most: bundles that a process writes at most.
        largest: bytes of a bundle's tensors.
        windows: how many of the last windows are in a bundle.

    Raises:
        UsageError: a value out of its range.
    """

    losses: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    folder: str = BUNDLES_DIR
    most: int = 8
    largest: int = 64 * 2**20
    windows: int = 8

    def __post_init__(self) -> None:
        for name in self.losses:
            module, _, rest = name.rpartition(":")
            if not module or not rest or (module.endswith(".py") and not Path(module).is_file()):
                raise UsageError(f"{name!r} is no loss: write package.module:name, or the script's path.py:name.")
        if (self.low, self.high) != (None, None) and not self.losses:
            raise UsageError("a range is that of a loss: name it with --loss package.module:name.")
        for bound in (self.low, self.high):
            if bound is not None and not math.isfinite(bound):
                raise UsageError(f"a range's bound is {bound}, but must be finite.")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise UsageError(f"the range {self.low:g},{self.high:g} is empty.")
        limits = {"most": 1000, "windows": 100, "largest": _LARGEST}
        for field, limit in limits.items():
            if not 1 <= getattr(self, field) <= limit:
                raise UsageError(f"{field} is {getattr(self, field)}, but must be from 1 to {limit}.")

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @staticmethod
    def from_json(found: dict[str, Any]) -> WatchOptions:
        """The inverse of :meth:`as_json`."""
        return WatchOptions(**{**found, "losses": tuple(found["losses"])})
