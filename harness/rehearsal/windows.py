"""What a window is: when it ends, and what had changed in it by then.

A *window* is what lies between two updates of the parameters. It ends at the first forward pass of the outermost module
after ``scaler.update()``, or after an optimizer's step where no scaler is on; a window without a step, as a loop that
drops one makes, ends after as many forward passes as the windows before it had.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Protocol

from torch import nn

from harness.rehearsal import snapshot
from harness.rehearsal.faults import Injection
from harness.rehearsal.half_precision import HalfPrecision
from harness.rehearsal.parameters import Averages, Parameters, buffers_finite
from harness.rehearsal.places import Places
from harness.rehearsal.record import Call, Did, Run, Window
from harness.rehearsal.tracing import LineTrace

LEARNED_FROM = 4
"""Windows without a fault that a program begins with: from them it is learned what a window is."""

# Its square fits into float16 too, as which some optimizers keep it.
_SMALL_NORM = 100.0


class Director(Protocol):
    """Decides what is put into the windows."""

    def next_window(self, run: Run) -> Injection | None:
        """Of the window that begins; ``None`` for no fault. It may end the process."""

    def keeps_saves(self) -> bool:
        """Whether what the script saves from now on is written: not once it is as good as killed."""


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
        self._parameters = Parameters()
        self._averages = Averages()
        self._trace = LineTrace(places, self._parameters, self._averages)
        self._model: nn.Module | None = None
        self._scaler: Any = None
        self._forwards = 0
        self._numbers: dict[str, int] = {}

    def finish(self, raised: bool) -> None:
        """Close the window that the script's end, or its exception, cut off."""
        if self._window.calls:
            self._window.over = True
            self._close()
            if self._window.fault and not raised:
                self._window.refused = self._window.refused or "the script ended with it: let it train longer"

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
        window.moved, window.finite = self._parameters.moved(), self._parameters.finite(states=self._in_doubt())
        if self._thorough:
            self._state_at_end()
        if self._model is not None and len(self.run.windows) == 1:
            self._averages.find(self._model, self._parameters)
        window.averages, window.averages_finite = self._averages.moved(), self._averages.finite()
        window.buffers_finite = None if self._model is None else buffers_finite(self._model)
        window.rates = window.rates or self._parameters.rates()
        if self._scaler is not None:
            window.scale = float(self._scaler.get_scale())
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
        seen = self.run.windows[1:]
        if not self._forwards and len(seen) >= LEARNED_FROM - 1:
            self._forwards = Counter(w.forwards for w in seen).most_common(1)[0][0]

    def _in_doubt(self) -> bool:
        """Whether this window's updates may have spoilt what an optimizer keeps: small, finite gradients can't."""
        before, steps = self.run.windows[-1:], self._window.of(Did.OPTIMIZER_STEP)
        if self._injection is not None or not before or not before[0].finite:
            return True
        return any(call.value is None or not call.value < _SMALL_NORM for call in steps)

    def _count(self) -> None:
        """Of the script's own whole numbers, by how much each went up or down in this window."""
        before, now = self._numbers, self._places.numbers()
        self._numbers = now
        self._window.counted = {name: n - before[name] for name, n in now.items() if before.get(name, n) != n}

    def _begin(self) -> None:
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
            self._window.state["scaler"] = snapshot.of_scaler(scaler)

    def _state_at_step(self, index: int) -> None:
        state = self._window.state
        if not self._thorough or str(index) in state.setdefault("optimizers", {}):
            return
        state["optimizers"][str(index)] = snapshot.of_optimizer(self._parameters, index)
        if "averages" not in state and self._model is not None:
            if not self.run.windows:
                self._averages.find(self._model, self._parameters)
            state["averages"] = snapshot.of_averages(self._averages)

    def _state_at_end(self) -> None:
        state = self._window.state
        if "averages" in state:
            # What stays as it is may be what was loaded, or a teacher.
            now = snapshot.of_averages(self._averages)
            state["averages"] = [a for a, b in zip(state["averages"], now, strict=True) if a != b]
        optimizers = range(len(self._parameters.optimizers))
        state["end"] = [d for index in optimizers for d in snapshot.digests(self._parameters.of(index))]

    def _state_at_save(self) -> None:
        if self._thorough:
            optimizers = range(len(self._parameters.optimizers))
            saved = {str(index): snapshot.of_optimizer(self._parameters, index) for index in optimizers}
            self._window.state["saved"] = saved

    def _note(
        self,
        did: Did,
        optimizer: int = -1,
        value: float | None = None,
        limit: float | None = None,
        finite: bool | None = None,
        **notes: Any,
    ) -> None:
        self._window.calls.append(Call(did, self._places.here(), optimizer, value, limit, finite, notes))
