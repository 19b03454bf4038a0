"""Which of a script's lines changes a counter, a learning rate or a running average, in windows with a fault alone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from harness.rehearsal.averages import Averages
from harness.rehearsal.parameters import Parameters
from harness.rehearsal.places import Places

_MOST_LINES = 20_000  # of a window: then its lines are told no more
_MOST_COUNTERS = 50


@dataclass(frozen=True)
class Lines:
    """Of one window.

    Attributes:
        counters: for each counter, the line that changed it; not there where several did, or none.
        rates: the line that changed a learning rate; empty for several, or none.
        averages: the first line that changed a running average; empty for none.
        sums: of averages on a device, their sums at first and after each line of ``summed``; ``None`` for none.
        summed: the lines that were run until ``averages`` was found otherwise.
    """

    counters: Mapping[str, str] = field(default_factory=dict)
    rates: str = ""
    averages: str = ""
    sums: Tensor | None = None
    summed: Sequence[str] = ()

    def averages_by(self, sums: Tensor) -> str:
        """As ``averages``, with the sums that have come meanwhile."""
        changed = ((sums[1:] != sums[:-1]) & ~(sums[1:].isnan() & sums[:-1].isnan())).any(1).tolist()
        return next((line for line, other in zip(self.summed, changed, strict=True) if other), self.averages)


@dataclass
class _Counter:
    """A whole number that the script keeps.

    Attributes:
        frame: in whose variables it was found, or the object that holds it.
        holder: that object; ``None`` where the number is a variable itself.
        name: of the variable, or of the object's attribute.
        of_self: that object is the frame's own ``self``.
        value: when it was looked at last.
        lines: that changed it.
    """

    frame: FrameType
    holder: Any
    name: str
    of_self: bool
    value: Any
    lines: set[str] = field(default_factory=set)

    def now(self, frame: FrameType) -> Any:
        """Its value; a variable of a function is looked at from that function's own lines alone."""
        if self.holder is not None:
            return _attributes(self.holder).get(self.name, self.value)
        if self.frame.f_code.co_name == "<module>":
            return self.frame.f_globals.get(self.name, self.value)
        return frame.f_locals.get(self.name, self.value) if frame is self.frame else self.value


class LineTrace:
    """Python's own tracing, of the script's own lines: slow, and so for few windows.

    Where something else traces already, a debugger, say, it stands back and tells nothing.

    Args:
        places: tells the script's own lines.
        parameters: whose optimizers' rates are looked at.
        averages: that are looked at.
    """

    def __init__(self, places: Places, parameters: Parameters, averages: Averages) -> None:
        self._places, self._parameters, self._averages = places, parameters, averages
        self._counters: dict[str, _Counter] = {}
        self._rates: list[list[Any]] = []
        self._rate_lines: set[str] = set()
        self._mark: Callable[[], tuple[list[int], Tensor | list[str]]] = _nothing
        self._marked: tuple[list[int], Tensor | list[str]] = _nothing()
        self._average_line = ""
        self._sums: list[Tensor] = []
        self._summed: list[str] = []
        self._at: FrameType | None = None
        self._line = ""
        self._left = 0
        self._on = False
        self._traced: list[FrameType] = []

    def begin(self, names: Sequence[str]) -> None:
        """Look at these counters from here on, as :meth:`Places.numbers` names them, at all rates and averages."""
        self._counters, self._rate_lines, self._average_line = {}, set(), ""
        if sys.gettrace() is not None:
            return
        frames = [frame for frame in _outwards(sys._getframe(1)) if self._places.is_own(frame)]
        for name in names[:_MOST_COUNTERS]:
            found = next((c for c in (_found(name, frame) for frame in frames) if c is not None), None)
            if found is not None:
                self._counters[name] = found
        self._rates = self._parameters.rate_marks()
        self._mark = self._averages.mark()
        self._marked = self._mark()
        self._sums = [self._marked[1]] if isinstance(self._marked[1], Tensor) else []
        self._summed = []
        self._left = _MOST_LINES
        self._move(sys._getframe(1))
        self._on = True
        for frame in frames:
            frame.f_trace = self._trace
        self._traced = frames
        sys.settrace(self._enter)

    def end(self) -> Lines:
        """Stop, and say which lines it was; none if the window had too many."""
        if not self._on:
            return Lines()
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and not self._places.is_own(frame):
            frame = frame.f_back
        if frame is not None:
            self._look(frame)
        self._stop()
        counted = {name: only for name, counter in self._counters.items() if (only := _only(counter.lines))}
        sums = torch.stack(self._sums) if self._summed else None
        lines = Lines(counted, _only(self._rate_lines), self._average_line, sums, self._summed)
        self._counters, self._mark, self._sums, self._summed = {}, _nothing, [], []  # which keep tensors
        return lines

    def _stop(self) -> None:
        sys.settrace(None)
        self._on = False
        for frame in self._traced:
            frame.f_trace = None
        self._traced = []
        self._at = None

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
        return self._trace if self._on and self._places.is_own(frame) else None

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
        if not self._on:
            return None
        self._left -= 1
        if self._left <= 0:
            self._stop()
            return None
        self._look(frame)
        # What is left of the caller's line comes after the return.
        self._move(frame.f_back if event == "return" else frame)
        return self._trace

    def _move(self, frame: FrameType | None) -> None:
        """What changes from now on is of this frame's line, or of the script's own line that led to it."""
        while frame is not None and not self._places.is_own(frame):
            frame = frame.f_back
        self._at, self._line = frame, self._places.at(frame)

    def _look(self, frame: FrameType) -> None:
        for counter in self._counters.values():
            value = counter.now(frame)
            if type(value) is int and value != counter.value:
                counter.value = value
                counter.lines.add(self._told(counter))
        rates = self._parameters.rate_marks()
        if rates != self._rates:
            self._rates = rates
            self._rate_lines.add(self._line)
        if not self._average_line:
            self._look_at_averages()

    def _look_at_averages(self) -> None:
        counts, sums = self._mark()
        if isinstance(sums, Tensor):
            self._sums.append(sums)
            self._summed.append(self._line)
        if counts != self._marked[0] or (isinstance(sums, list) and sums != self._marked[1]):
            self._average_line = self._line

    def _told(self, counter: _Counter) -> str:
        """Of a meter, say, the line of the loop that calls it, and not its own."""
        if counter.holder is None or counter.of_self or self._at is counter.frame:
            return self._line
        return next((self._places.at(f) for f in _outwards(self._at) if f is counter.frame), self._line)


def _found(name: str, frame: FrameType) -> _Counter | None:
    """The counter of this name among a frame's variables; ``None`` where it has none."""
    first, *path = name.split(".")
    held = dict(frame.f_locals).get(first)
    if not path:
        return _Counter(frame, None, name, False, held) if type(held) is int else None
    holder: Any = held
    for part in path[:-1]:
        holder = _attributes(holder).get(part)
    value = _attributes(holder).get(path[-1])
    return _Counter(frame, holder, path[-1], len(path) == 1 and first == "self", value) if type(value) is int else None


def _nothing() -> tuple[list[int], Tensor | list[str]]:
    return [], []


def _attributes(held: Any) -> dict[str, Any]:
    try:
        found = object.__getattribute__(held, "__dict__")
    except AttributeError:  # a class with slots
        return {}
    return found if isinstance(found, dict) else {}


def _only(lines: set[str]) -> str:
    return next(iter(lines)) if len(lines) == 1 else ""


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back
