"""Goldens that are checked or recorded, as the events tell it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.goldens.events import Event, GoldenChecked, GoldenRecorded, GoldensFinished, GoldensStarted
from harness.goldens.outcome import Outcome


@dataclass
class GoldenModel:
    """A listener; at any time, what is known by then.

    Attributes:
        environment: what the values depend on besides, as plain values.
        planned: how many steps there are to be.
        outcomes: of those that were checked, in the suite's order.
        refused: what the truth refused to have recorded.
        written, removed: names, of an update that is finished.
        seconds: how long it took, or ``None`` while it goes on.
    """

    environment: Mapping[str, Any] = field(default_factory=dict)
    planned: int = 0
    outcomes: list[Outcome] = field(default_factory=list)
    refused: list[Outcome] = field(default_factory=list)
    written: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    seconds: float | None = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, GoldensStarted):
            self.environment, self.planned = event.environment, event.planned
        elif isinstance(event, GoldenChecked):
            self.outcomes.append(event.outcome)
        elif isinstance(event, GoldenRecorded):
            self.refused += event.refused
        elif isinstance(event, GoldensFinished):
            self.written, self.removed, self.seconds = event.written, event.removed, event.seconds
