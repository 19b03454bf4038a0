"""What checking or recording goldens tells whoever listens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.goldens.outcome import Outcome


@dataclass(frozen=True)
class GoldensStarted:
    """Goldens are about to be checked or recorded.

    Attributes:
        planned: how many steps: a golden under a precision, or where they are recorded, a golden.
        environment: what the values depend on besides, as plain values.
    """

    planned: int
    environment: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class GoldenStarted:
    """A golden is about to be run."""

    golden: str


@dataclass(frozen=True)
class GoldenChecked:
    """What became of a golden under a precision, or of what is recorded and nothing uses."""

    outcome: Outcome


@dataclass(frozen=True)
class GoldenRecorded:
    """A golden was run in order to record it.

    Attributes:
        changed: there is something to write.
        refused: where it lies outside the truth's budget.
    """

    golden: str
    changed: bool
    refused: tuple[Outcome, ...] = ()


@dataclass(frozen=True)
class GoldensFinished:
    """All are done; where they were recorded, names written and removed: none where the truth refused any."""

    seconds: float
    written: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


Event = GoldensStarted | GoldenStarted | GoldenChecked | GoldenRecorded | GoldensFinished
Listener = Callable[[Event], None]
