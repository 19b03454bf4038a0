"""A comparison of two implementations, as the events tell it."""

from __future__ import annotations

from dataclasses import dataclass

from harness.comparison.events import CaseCompared, ComparisonFinished, ComparisonStarted, Event
from harness.comparison.result import Comparison


@dataclass
class ComparisonModel:
    """A listener; at any time, what is known by then.

    Attributes:
        drawn: how many drawn cases are compared.
        tried: how many more were, in search of a smaller one that differs.
        seconds: how long it took, or ``None`` while it goes on.
    """

    _started: ComparisonStarted | None = None
    _comparison: Comparison | None = None
    drawn: int = 0
    tried: int = 0
    seconds: float | None = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, ComparisonStarted):
            self._started = event
        elif isinstance(event, CaseCompared):
            self.tried += event.shrinking
            self.drawn += not event.shrinking
        elif isinstance(event, ComparisonFinished):
            self._comparison, self.seconds = event.comparison, event.seconds

    @property
    def started(self) -> ComparisonStarted:
        """What was asked for."""
        assert self._started is not None, "a comparison's first event is ComparisonStarted"
        return self._started

    @property
    def comparison(self) -> Comparison:
        """What came of it."""
        assert self._comparison is not None, "the comparison isn't finished"
        return self._comparison
