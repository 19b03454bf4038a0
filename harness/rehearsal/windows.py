"""What a window is: when it ends, and what had changed in it by then.

A *window* is what lies between two updates of the parameters. It ends at the first forward pass of the outermost module
after ``scaler.update()``, or after an optimizer's step where no scaler is on; a window without a step, as a loop that
drops one makes, ends after as many forward passes as the windows before it had.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from torch import Tensor, nn

from harness.rehearsal.averages import NONE, Averages, Follower
from harness.rehearsal.faults import Injection
from harness.rehearsal.half_precision import HalfPrecision
from harness.rehearsal.parameters import Parameters, buffers_finite
from harness.rehearsal.places import Places
from harness.rehearsal.readings import Readings
from harness.rehearsal.record import Call, Did, Run, Window
from harness.rehearsal.snapshot import Snapshots
from harness.rehearsal.tracing import LineTrace

_Seen = list[tuple[Follower, list[str]]]

LEARNED_FROM = 4
"""Windows without a fault that a program begins with: from them it is learned what a window is."""

# Its square fits into float16 too, as which some optimizers keep it.
_SMALL_NORM = 100.0


class Director(Protocol):
    """Decides what is put into the windows."""

    def window_ended(self, window: Window, goes_on: bool = True) -> None:
        """Told of every window, in order, once all that was measured in it is there. It may end the process.

        Args:
            goes_on: the script was not at its end.
        """

    def next_window(self, run: Run) -> Injection | None:
        """Of the window that begins; ``None`` for no fault. It may end the process.

        What was measured in the last windows may not be there yet: only their calls are.
        """

    def keeps_saves(self) -> bool:
        """Whether what the script saves from now on is written: not once it is as good as killed."""


class NoFaults:
    """Directs nothing: no window has a fault."""

    def window_ended(self, window: Window, goes_on: bool = True) -> None:
        """Whatever it was."""

    def next_window(self, run: Run) -> None:
        """None."""

    def keeps_saves(self) -> bool:
        """Always."""
        return True


class Windows:
    """Puts calls into windows; what calls there are, its subclass sees.

    Args:
        places: tells the lines of the script.
        director: says which fault is next.
        half: the half precision that autocast is to have; empty for the script's own.
        thorough: whether each window's state is kept.
    """

    def __init__(self, places: Places, director: Director, half: str = "", thorough: bool = False) -> None:
        self.run = Run()
        self._halves, self._thorough = HalfPrecision(half), thorough
        self._places, self._director = places, director
        self._window = Window()
        self._injection: Injection | None = None
        self._hooks: list[Any] = []
        self._readings = Readings()
        self._snapshots = Snapshots(self._readings)
        # Those that still wait for their numbers, each with its averages at its first step and at its end,
        # and the order that they come by.
        self._unsettled: deque[tuple[Window, _Seen, _Seen, int]] = deque()
        self._averages_before: _Seen = []
        self._parameters = Parameters(self._readings)
        self._averages = Averages(self._readings)
        self._trace = LineTrace(places, self._parameters, self._averages)
        self._model: nn.Module | None = None
        self._scaler: Any = None
        self._forwards = 0
        self._numbers: dict[str, int] = {}

    def finish(self, raised: bool) -> None:
        """Close the window that the script's end, or its exception, cut off."""
        self.settle(wait=True)
        if self._window.calls:
            self._window.over = True
            self._close()
            if self._window.fault and not raised:
                self._window.refused = self._window.refused or "the script ended with it: let it train longer"
            self.settle(wait=True, goes_on=False)

    def settle(self, wait: bool = False, goes_on: bool = True) -> None:
        """Tell the director of the windows whose numbers have come.

        Args:
            wait: for all of them.
            goes_on: the script was not at its end.
        """
        if wait:
            self._readings.wait()
        else:
            self._readings.receive()
        while self._unsettled and self._readings.has_come(self._unsettled[0][-1]):
            window, before, after, _ = self._unsettled.popleft()
            if "averages" in window.state:
                # What stays as it is may be what was loaded, or a teacher.
                now = {id(follower): digests for follower, digests in after}
                pairs = [(digests, now.get(id(follower))) for follower, digests in before if follower.near]
                window.state["averages"] = [were for were, are in pairs if are is not None and were != are]
            self._director.window_ended(window, goes_on)

    def _window_is_full(self) -> bool:
        ends = (Did.UPDATE,) if self._scaler is not None else (Did.SCALER_STEP, Did.OPTIMIZER_STEP)
        if self._window.of(*ends):
            return True
        return bool(self._forwards) and self._window.forwards >= self._forwards

    def _close(self) -> None:
        """End the window: see what changed in it."""
        window = self._window
        lines = self._trace.end()
        window.counted_at, window.rates_at, window.averages_at = dict(lines.counters), lines.rates, lines.averages
        if lines.sums is not None:
            self._readings.take_whole(lines.sums, lambda sums: setattr(window, "averages_at", lines.averages_by(sums)))
        put = self._readings.put
        for index, moved in enumerate(self._parameters.moved()):
            window.moved.append(False)
            put(moved, partial(_put_truth, window.moved, index))
        self._measure("finite", self._parameters.finite(states=self._in_doubt()))
        before, after = self._averages_before, self._state_at_end() if self._thorough else []
        if self._model is not None and len(self.run.windows) == 1:
            self._averages.find(self._model, self._parameters)
        put(self._averages.moved(), partial(_put_averages, window))
        self._measure("averages_finite", self._averages.finite())
        self._measure("buffers_finite", None if self._model is None else buffers_finite(self._model, self._readings))
        window.rates = window.rates or self._parameters.rates()
        if self._scaler is not None:
            put(self._scale_of(self._scaler), partial(setattr, window, "scale"))
        window.halves = sorted(self._halves.asked)
        self._halves.asked.clear()
        if self._injection is not None:
            window.fault = self._injection.fault.value
            if not self._injection.done:
                window.refused = self._injection.refused or "its place in the window was never reached"
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        self.run.windows.append(window)
        self._unsettled.append((window, before, after, self._readings.send()))
        seen = self.run.windows[1:]
        if not self._forwards and len(seen) >= LEARNED_FROM - 1:
            self._forwards = Counter(w.forwards for w in seen).most_common(1)[0][0]

    def _measure(self, name: str, value: bool | Tensor | None) -> None:
        """Put a truth value into the window, now or later."""
        window = self._window
        self._readings.put(value, lambda number: setattr(window, name, None if number is None else bool(number)))

    def _scale_of(self, scaler: Any) -> float | Tensor:
        """Its scale; the tensor that holds it where it is on a device."""
        scale = scaler._scale
        return scale if scale is not None and self._readings.is_away(scale) else float(scaler.get_scale())

    def _in_doubt(self) -> bool:
        """Whether this window's updates may have spoilt what an optimizer keeps: small, finite gradients can't."""
        before, steps = self.run.windows[-1:], self._window.of(Did.OPTIMIZER_STEP)
        if self._injection is not None or not before or self._unsettled or not before[0].finite:
            return True
        return any(call.value is None or not call.value < _SMALL_NORM for call in steps)

    def _count(self) -> None:
        """Of the script's own whole numbers, by how much each went up or down in this window."""
        before, now = self._numbers, self._places.numbers()
        self._numbers = now
        self._window.counted = {name: n - before[name] for name, n in now.items() if before.get(name, n) != n}

    def _begin(self) -> None:
        self.settle()
        self._window = Window()
        self._injection = self._director.next_window(self.run)
        if self._injection is not None:
            self._trace.begin(self._steady())

    def _steady(self) -> list[str]:
        """The script's numbers that went up in most windows so far."""
        good = [window for window in self.run.windows[1:] if not window.fault]
        times = Counter(name for window in good for name, by in window.counted.items() if by > 0)
        return [name for name, count in times.items() if 2 * count > len(good)]

    def _state_at_start(self) -> None:
        if self._thorough and not self._window.forwards:
            self._window.state["numbers"] = self._places.numbers()

    def _state_at_scale(self, scaler: Any) -> None:
        if self._thorough and "scaler" not in self._window.state:
            self._window.state["scaler"] = self._snapshots.of_scaler(scaler)

    def _state_at_step(self, index: int) -> None:
        state = self._window.state
        if not self._thorough or str(index) in state.setdefault("optimizers", {}):
            return
        state["optimizers"][str(index)] = self._snapshots.of_optimizer(self._parameters, index)
        if "averages" not in state and self._model is not None:
            if not self.run.windows:
                self._averages.find(self._model, self._parameters)
            state["averages"] = []
            self._averages_before = self._snapshots.of_averages(self._averages)

    def _state_at_end(self) -> _Seen:
        """The averages, where they were looked at before."""
        state = self._window.state
        optimizers = range(len(self._parameters.optimizers))
        state["end"] = self._snapshots.digests(p for index in optimizers for p in self._parameters.of(index))
        return self._snapshots.of_averages(self._averages) if "averages" in state else []

    def _state_at_save(self) -> None:
        if self._thorough:
            optimizers = range(len(self._parameters.optimizers))
            saved = {str(index): self._snapshots.of_optimizer(self._parameters, index) for index in optimizers}
            self._window.state["saved"] = saved

    def _note(
        self,
        did: Did,
        optimizer: int = -1,
        value: Any = None,
        limit: float | None = None,
        finite: Any = None,
        **notes: Any,
    ) -> None:
        """Note a call. A value that is a tensor comes later, and whether it is finite with it; ``finite`` likewise."""
        calls = self._window.calls
        later = [isinstance(each, Tensor) for each in (value, finite)]
        calls.append(
            Call(
                did,
                self._places.here(),
                optimizer,
                None if later[0] else value,
                limit,
                None if later[1] else finite,
                notes,
            )
        )
        if later[0]:
            told_by_norm = did in (Did.CLIP, Did.OPTIMIZER_STEP)
            self._readings.take(
                value, self._later(lambda n: {"value": n, "finite": math.isfinite(n) if told_by_norm else None})
            )
        if later[1]:
            self._readings.take(finite, self._later(lambda truth: {"finite": bool(truth)}))

    def _later(self, fields: Callable[[float], dict[str, Any]]) -> Callable[[float], None]:
        """Puts a number into the call that was noted last."""
        calls = self._window.calls
        position = len(calls) - 1

        def into(number: float) -> None:
            calls[position] = replace(calls[position], **fields(number))

        return into


def _put_truth(found: list[bool], index: int, number: float) -> None:
    found[index] = bool(number)


def _put_averages(window: Window, number: float | None) -> None:
    window.averages = None if number is None or number == NONE else bool(number)
