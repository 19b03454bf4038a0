"""Which fault goes into which window: good windows to learn from, then each fault with good windows after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from harness.rehearsal.faults import Fault, Injection
from harness.rehearsal.record import Did, Run, Window
from harness.rehearsal.rules import RECOVERY
from harness.rehearsal.windows import LEARNED_FROM

AFTER_SAVE = 2
"""Windows between a checkpoint and the kill: a schedule that begins anew shows in the second."""
_LONGEST = 300  # windows in which a checkpoint must come


@dataclass(frozen=True)
class Planned:
    """A fault, the pass of the window that it goes into (the first, the middle or the last), and the rank; ``None`` for
    every one.
    """

    fault: Fault
    place: str = "last"
    rank: int | None = None

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
        tell: of every window that is over.
        settle: has all windows told of, waiting for what was measured in them.
        rank: of this process.
        learned: called once, before the first fault, with the faults; it gives those that are put in.
        begun: how many of the faults were put in.
    """

    planned: Sequence[Planned]
    finished: Callable[[], None]
    tell: Callable[[Window], None] = lambda _: None
    settle: Callable[[], None] = lambda: None
    rank: int | None = None
    learned: Callable[[Sequence[Planned]], Sequence[Planned]] | None = None
    begun: int = 0
    _wait: int = field(default=LEARNED_FROM, init=False)
    _told_of: int = field(default=0, init=False)

    def window_ended(self, window: Window, goes_on: bool = True) -> None:
        """Nothing is to be learned from windows after one that left the parameters not finite."""
        self.tell(window)
        self._told_of += bool(window.fault)
        if not window.finite and self._told_of and goes_on:
            # Those that were put in before this was known have their turn another time.
            self.begun = self._told_of
            self.finished()

    def next_window(self, run: Run) -> Injection | None:
        """The fault of the window that begins, if it is one's turn."""
        self._wait -= 1
        if self._wait <= 0 and self.begun == len(self.planned):
            self.settle()
            self.finished()
        if self._wait > 0 or self.begun >= len(self.planned):
            return None
        if self.learned is not None:
            self.planned, self.learned = self.learned(self.planned), None
        planned = self.planned[self.begun]
        self.begun += 1
        self._wait = 1 + RECOVERY
        good = [window for window in run.windows[1:] if not window.fault]
        forwards, backwards = (max(n) for n in zip(*[(w.forwards, w.backwards) for w in good], strict=True))
        everywhere, here = planned.place == "last", planned.rank in (None, self.rank)
        return Injection(planned.fault, planned.at(forwards), planned.at(backwards), everywhere, here)

    def keeps_saves(self) -> bool:
        """Always."""
        return True


@dataclass
class UntilSaved:
    """Directs a run that is killed after a checkpoint: one is saved, other windows follow, and that is all.

    What the checkpoint must lead to is what those other windows began with.

    Attributes:
        planned: a fault that comes first, so that the scaler's scale is another than at the beginning; or none.
        killed: called at the end.
        given_up: called if no checkpoint comes.
        tell: of every window that is over.
        settle: has all windows told of, waiting for what was measured in them.
    """

    planned: Sequence[Planned]
    killed: Callable[[], None]
    given_up: Callable[[], None]
    tell: Callable[[Window], None] = lambda _: None
    settle: Callable[[], None] = lambda: None
    _saved: int = field(default=0, init=False)
    _begun: int = field(default=0, init=False)

    def window_ended(self, window: Window, goes_on: bool = True) -> None:
        """Tell of it."""
        self.tell(window)

    def next_window(self, run: Run) -> Injection | None:
        """The fault, after a few good windows."""
        last = run.windows[-1]
        count = len(run.windows)
        if self._saved and count == self._saved + AFTER_SAVE:
            self.settle()
            self.killed()
        saves = any(call.notes.get("saved_optimizer") for call in last.of(Did.SAVE))
        if (
            saves
            and not self._saved
            and count >= max(self._begun, LEARNED_FROM) + RECOVERY
            and (self._begun or not self.planned)
        ):
            self._saved = count
        if count > _LONGEST:
            self.settle()
            self.given_up()
        if self._begun or count < LEARNED_FROM or not self.planned:
            return None
        self._begun = count
        return Injection(self.planned[0].fault)

    def keeps_saves(self) -> bool:
        """Until the checkpoint is there."""
        return not self._saved
