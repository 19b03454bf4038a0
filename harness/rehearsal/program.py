"""Which fault goes into which window: good windows to learn from, then each fault with good windows after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from harness.rehearsal.faults import Fault, Injection
from harness.rehearsal.record import Run, Window
from harness.rehearsal.rules import RECOVERY
from harness.rehearsal.windows import LEARNED_FROM


@dataclass(frozen=True)
class Planned:
    """A fault, and the pass of the window that it goes into: the first, the middle or the last."""

    fault: Fault
    place: str = "last"

    def at(self, passes: int) -> int:
        """Which of so many, counted from 0."""
        last = max(0, passes - 1)
        return {"first": 0, "middle": last // 2, "last": last}[self.place]


@dataclass
class Program:
    """Directs the windows of one run of the script.

    Attributes:
        planned: the faults, in order.
        finished: called when they are through, or when going on would show nothing: the parameters aren't finite.
        window_ended: told of every window that is over.
        begun: how many of the faults were put in.
    """

    planned: Sequence[Planned]
    finished: Callable[[], None]
    window_ended: Callable[[Window], None] = lambda _: None
    begun: int = 0
    _wait: int = field(default=LEARNED_FROM, init=False)

    def next_window(self, run: Run) -> Injection | None:
        """The fault of the window that begins, if it is one's turn."""
        last = run.windows[-1]
        self.window_ended(last)
        self._wait -= 1
        poisoned = not last.finite and bool(self.begun)
        if poisoned or (self._wait <= 0 and self.begun == len(self.planned)):
            self.finished()
        if self._wait > 0 or self.begun >= len(self.planned):
            return None
        planned = self.planned[self.begun]
        self.begun += 1
        self._wait = 1 + RECOVERY
        good = [window for window in run.windows[1:] if not window.fault]
        forwards, backwards = (max(n) for n in zip(*[(w.forwards, w.backwards) for w in good], strict=True))
        return Injection(planned.fault, planned.at(forwards), planned.at(backwards))
