"""The observer of a rehearsal, measuring what costs next to nothing: it waits for no GPU and copies no parameter."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from harness.pretence.patches import Patches
from harness.rehearsal.half_precision import HalfPrecision
from harness.rehearsal.observer import Observer
from harness.rehearsal.places import Places
from harness.rehearsal.record import Call, Did
from harness.rehearsal.windows import NoFaults
from harness.watching.guard import Guard, GuardedPatches
from harness.watching.watched_parameters import WatchedParameters

_NORM_EVERY = 8
"""Windows, of which one has its gradients' norm taken where neither a clip nor a scaler looks at them."""


class _NoHalves(HalfPrecision):
    """Which autocasts a script opens is no matter of the rules."""

    def install(self, patches: Patches) -> None:
        return


class MeasuringLittle(Observer):
    """Sees what the observer sees; numbers that a GPU holds come later, into the calls that they belong to.

    Args:
        guard: that no call of the script is changed.
    """

    eager = False

    def __init__(self, places: Places, guard: Guard) -> None:
        super().__init__(places, NoFaults())
        self._guard = guard
        self._patches = GuardedPatches(guard)
        self._halves = _NoHalves()
        self._parameters: WatchedParameters = WatchedParameters(self._readings)
        self._windows_begun = 0

    def _begin(self) -> None:
        super()._begin()
        self._windows_begun += 1

    def _read(self, found: Any, into: Callable[[float], None]) -> None:
        if isinstance(found, Tensor) and found.numel() == 1:
            self._readings.take(found, into)

    def _backward(self, stock: Callable[..., Any]) -> Callable[..., Any]:
        def backward(*args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return stock(*args, **kwargs)
            window, run = self._window, self.run
            # To look at gradients would be to wait for them: only after a window that may have left some.
            if not window.backwards and run.windows and run.windows[-1].fault:
                self._measure("stale", self._parameters.have_gradients())
            value = self._loss_value(args[0] if args else kwargs.get("tensors"))
            window.backwards += 1
            self._note(Did.BACKWARD, value=value)
            return self._within(stock, *args, **kwargs)

        return backward

    def _scaler_step(self, stock: Callable[..., Any]) -> Callable[..., Any]:
        def step(scaler: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
            self._use(scaler)
            if not scaler.is_enabled() or self._inside:
                return stock(scaler, optimizer, *args, **kwargs)
            self._window.rates = self._parameters.rates()
            self._note(Did.SCALER_STEP, self._parameters.index(optimizer))
            into = self._later(lambda bad: {"finite": not bad})
            found = stock(scaler, optimizer, *args, **kwargs)
            # What the scaler itself has found out.
            per_device = scaler._per_optimizer_states[id(optimizer)]["found_inf_per_device"]
            if per_device:
                self._read(sum(t.to(next(iter(per_device.values())).device) for t in per_device.values()), into)
            return found

        return step

    def _optimizer_step(self, optimizer: Any, *_: Any) -> None:
        if self._guard.on:
            self._guarded(self._optimizer_steps, optimizer)

    def _optimizer_steps(self, optimizer: Any) -> None:
        index = self._parameters.index(optimizer)
        self._window.rates = self._parameters.rates()
        norms = [c for c in self._window.of(Did.CLIP) if c.notes.get("by") == "norm" and c.optimizer == index]
        steps = [c for c in self._window.of(Did.SCALER_STEP) if c.optimizer == index]
        if norms or steps:
            # Its gradients were looked at already.
            super()._note(Did.OPTIMIZER_STEP, index, finite=self._found_finite(index, norms))
            return
        in_doubt = any(not math.isfinite(loss) for loss in self._window.losses)
        if not in_doubt and self._parameters.gradients(index) and self._windows_begun % _NORM_EVERY:
            super()._note(Did.OPTIMIZER_STEP, index, finite=True)
            return
        norm = self._parameters.norm_tensor(index)
        value = None if norm is None else self._number(norm)
        finite = None if value is None or isinstance(value, Tensor) else math.isfinite(value)
        self._note(Did.OPTIMIZER_STEP, index, value, finite=finite)

    def _found_finite(self, index: int, clips: list[Call]) -> bool | None:
        if not self._parameters.gradients(index):
            return None
        # A scaler steps only where they are, or skips inside a fused step, which its own call tells.
        return clips[-1].finite is not False if clips else True

    def _count(self) -> None:
        """The script's own numbers are no matter of the rules."""

    def _guarded(self, function: Callable[..., Any], *args: Any) -> Any:
        try:
            return function(*args)
        except Exception as error:
            self._guard.fail(error)
            return None
