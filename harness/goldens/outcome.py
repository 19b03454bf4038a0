"""What became of a golden."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from harness.goldens.deviation import Deviation


class Status(str, enum.Enum):
    """What became of one golden under one precision."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    MISSING = "missing"  # the suite names it, nothing is recorded
    UNUSED = "unused"  # recorded, but the suite doesn't name it


@dataclass(frozen=True)
class Outcome:
    """One golden under one precision; ``reason`` is the sentence for people where it is not passed."""

    golden: str
    precision: str
    status: Status
    reason: str = ""
    deviations: tuple[Deviation, ...] = ()
