"""A whole run watched: windows are closed and judged as they go, with the rules of a rehearsal."""

from __future__ import annotations

import math
import os
from collections import Counter, deque
from contextlib import ExitStack
from functools import partial
from typing import Any

from torch import nn

from harness.errors import describe_exception
from harness.rehearsal.places import Places
from harness.rehearsal.record import Did, Ending, Run, Window
from harness.rehearsal.rules import RECOVERY, Finding, findings
from harness.rehearsal.windows import LEARNED_FROM
from harness.watching.guard import Guard
from harness.watching.keeper import say
from harness.watching.loss_calls import Judged, LossCall
from harness.watching.loss_watch import LossWatch
from harness.watching.options import WatchOptions

_MOST_CALLS = 200
"""Of a window, that a bundle holds."""


class Watcher(LossWatch):
    """Watches; use as a context manager around the script.

    Args:
        places: tells the lines of the script.

    Attributes:
        keeper: knows what was told and written.
    """

    def __init__(self, places: Places, options: WatchOptions) -> None:
        super().__init__(places, Guard(self._failed), options)
        self._waiting: deque[tuple[Window, int]] = deque()  # with the order that its numbers come by
        self._stack = ExitStack()

    def __enter__(self) -> Watcher:
        self._guard.start()
        with self._stack as undo:
            undo.callback(super().__exit__, None, None, None)
            super().__enter__()
            self._watch_named_functions(undo)
            self._stack = undo.pop_all()
        os.register_at_fork(after_in_child=self._guard.stop)
        return self

    def __exit__(self, *raised: Any) -> None:
        error = raised[1] if len(raised) == 3 else None
        on = self._guard.on
        try:
            if on:
                self._end(error)
        except Exception as failure:
            self._guard.fail(failure)
        finally:
            self._guard.stop()
            self._stack.close()

    def _failed(self, error: Exception) -> None:
        say(f"watching failed, and has ended; the script goes on ({describe_exception(error)})")

    def _tell_of_loss(self, seen: LossCall, wrong: Judged) -> None:
        where = seen.where or self._places.here()
        sentence = f"{where}: {seen.name} gives {seen.value:.6g}, which {wrong.violation}, under {_words(seen)}"
        told = self._told_with()
        kind = f"{wrong.rule}: {seen.name}"
        self.keeper.tell(kind, wrong.rule, sentence, where, *told, wrong.loss, wrong.tensors, wrong.unrecorded)

    def _forward_begins(self, module: nn.Module) -> None:
        if self._window_is_full():
            self._close()
            self._begin()
        self._model = module
        self._window.forwards += 1
        self._note(Did.FORWARD)

    def _close(self) -> None:
        """End the window; it is judged once its numbers have come."""
        window = self._window
        window.rates = window.rates or self._parameters.rates()
        if self._scaler is not None:
            self._read(self._scaler._scale, partial(setattr, window, "scale"))
        self._waiting.append((window, self._readings.send()))
        self._settle()

    def _settle(self) -> None:
        self._readings.receive()
        while self._waiting and self._readings.has_come(self._waiting[0][1]):
            self._judge(self._waiting.popleft()[0])

    def _judge(self, window: Window) -> None:
        """Hold the rules against the last windows."""
        run = self.run
        steps = window.of(Did.OPTIMIZER_STEP)
        skipped = {call.optimizer for call in window.of(Did.SCALER_STEP) if call.finite is False}
        made = {call.optimizer for call in steps if call.finite is not None}
        window.moved = [index in made - skipped for index in range(len(self._parameters.optimizers))]
        # A bad window is to the rules what one with a fault is to a rehearsal.
        if any(not math.isfinite(loss) for loss in window.losses):
            window.fault = "a loss that is not finite"
        elif window.met_bad_gradients:
            window.fault = "gradients that are not finite"
        if window.fault:
            window.finite = bool(self._parameters.finite())  # it waits, in trouble alone
        elif run.windows:
            window.finite = run.windows[-1].finite
        run.windows.append(window)
        if not self._forwards and len(run.windows) >= LEARNED_FROM:
            self._forwards = Counter(w.forwards for w in run.windows[1:]).most_common(1)[0][0]
        troubled = any(w.fault for w in run.windows[-2 - RECOVERY :])
        seen = run.windows[-2 - 2 * RECOVERY :] if troubled else run.windows[-1:]
        for found in findings(Run(list(seen), scaler=run.scaler)):
            self._tell_of_rule(found)
        del run.windows[: -max(self._options.windows, 2 + 2 * RECOVERY)]

    def _tell_of_rule(self, found: Finding) -> None:
        if self.keeper.is_new(found.rule):
            aside = f" (after {found.fault})" if found.fault else ""
            self.keeper.tell(found.rule, found.rule, found.sentence + aside, found.where, *self._told_with())

    def _told_with(self) -> tuple[list[Any], Any, list[float]]:
        """The last windows, the scaler's state, and the norms in them."""
        windows = [*self.run.windows, *(window for window, _ in self._waiting), self._window][-self._options.windows :]
        shown = []
        for window in windows:
            found = window.as_json()
            cut = len(found["calls"]) - _MOST_CALLS
            if cut > 0:
                del found["calls"][_MOST_CALLS // 2 : _MOST_CALLS // 2 + cut]
            shown.append(found)
        norms = [c.value for w in windows for c in w.of(Did.CLIP, Did.OPTIMIZER_STEP) if c.value is not None]
        scaler = None if self._scaler is None else self._scaler.state_dict()
        return shown, scaler, norms[-_MOST_CALLS:]

    def _end(self, error: BaseException | None) -> None:
        """The script has ended, by an exception or without."""
        self._readings.wait()
        if self._window.calls:
            self._window.over = True
            self._close()
            self._readings.wait()
        self._settle()
        if isinstance(error, Exception):
            ending = Ending(raised=describe_exception(error), where=self._places.of(error.__traceback__))
            for found in findings(Run(self.run.windows[-1 - RECOVERY :], ending, self.run.scaler)):
                self._tell_of_rule(found)
        for path in sorted(self._named - self._met):
            say(f"{path} was never called, and so not watched: is it called by another name, or imported before?")


def _words(seen: LossCall) -> str:
    emulated = ", emulated" if seen.surrounded().emulated else ""
    autocast = seen.surrounded().autocast
    return f"{seen.surrounded().precision}{emulated}" if autocast else seen.surrounded().precision
