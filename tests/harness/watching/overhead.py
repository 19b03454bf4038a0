"""What watching costs a ``tiny`` step: ``python -m tests.harness.watching.overhead [ROUNDS]``.

A clock stands between the script's calls and the observer's wrappers around them, and another around the wrappers: the
time from the one to the other is the observer's own, in the very steps that it watches, with the processor's caches as
they are. What the clock itself takes is measured with wrappers that do nothing, and taken off. The three take turns in
blocks of six steps, in one process with one thread, whose own time is taken. Differences of whole steps, watched and
not, vary by several percent on a machine that does anything else, and say nothing of one percent.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gslrm.config import load_config
from gslrm.data.scene import load_scene
from gslrm.data.synthetic import synthetic_scene
from gslrm.training.sampling import Sampler
from gslrm.training.trainer import Trainer
from harness.pretence.patches import Patches
from harness.rehearsal.observer import Observer
from harness.rehearsal.places import Places, Script
from harness.rehearsal.windows import NoFaults
from harness.watching.options import WatchOptions
from harness.watching.watcher import Watcher

STEPS, WARM = 6, 4
_ENTRIES = [
    (nn.Module, "__call__"),
    (torch.autocast, "__init__"),
    (torch.autograd, "backward"),
    *[(torch.amp.GradScaler, name) for name in ("scale", "unscale_", "step", "update")],
    (torch.optim.Optimizer, "zero_grad"),
    (torch.optim.lr_scheduler.LRScheduler, "step"),
]


class _Nothing:
    """Wraps what an observer wraps, and only calls it."""

    def __init__(self) -> None:
        self._patches = Patches()

    def enter(self) -> None:
        for owner, name in _ENTRIES:
            self._patches.wrap(owner, name, lambda stock: lambda *args, **kwargs: stock(*args, **kwargs))

    def leave(self) -> None:
        self._patches.restore()

    def _optimizer_step(self, *_: Any) -> None:
        return


class _Clock:
    """Adds up the observer's own time: between a call of an observed function, and that of what it wraps."""

    def __init__(self) -> None:
        self.own = 0.0
        self._is_own = False
        self._since = 0.0

    def _turn(self, is_own: bool) -> bool:
        now, before = time.thread_time(), self._is_own
        if before:
            self.own += now - self._since
        self._is_own, self._since = is_own, now
        return before

    def timed(self, is_own: bool) -> Callable[[Any], Any]:
        def make(function: Any) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                before = self._turn(is_own)
                try:
                    return function(*args, **kwargs)
                finally:
                    self._turn(before)

            return call

        return make


@contextlib.contextmanager
def _observed(observer: Any, clock: _Clock) -> Iterator[None]:
    inner, outer = Patches(), Patches()
    for owner, name in _ENTRIES:
        inner.wrap(owner, name, clock.timed(False))
    if isinstance(observer, _Nothing):
        observer.enter()
    else:
        # Not the watcher's own entering, which begins and ends the watching.
        Observer.__enter__(observer)
    for owner, name in _ENTRIES:
        outer.wrap(owner, name, clock.timed(True))
    try:
        yield
    finally:
        outer.restore()
        if isinstance(observer, _Nothing):
            observer.leave()
        else:
            Observer.__exit__(observer)
        inner.restore()


def main(rounds: int) -> None:
    """Measure, and print a line for each."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        step = _training(Path(folder))
        places = Places(Script(path=__file__))
        watcher = Watcher(places, WatchOptions(folder=folder))
        watcher._guard.start()
        observers: dict[str, Any] = {
            "clock": _Nothing(),
            "watched": watcher,
            "rehearsed": Observer(places, NoFaults()),
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in observers}
        clocks = {name: _Clock() for name in observers}
        for name, observer in observers.items():
            observer._optimizer_step = clocks[name].timed(True)(observer._optimizer_step)
        for number in range(rounds):
            for name in observers if number % 2 else reversed(observers):
                with _observed(observers[name], clocks[name]):
                    times = [_times(step, clocks[name], index) for index in range(WARM + STEPS)]
                if number:  # in the first round, a rehearsal looks for running averages
                    found[name] += times[WARM:]
    clock, whole = (statistics.median(times) for times in zip(*found.pop("clock"), strict=True))
    print(f"a step takes {(whole - clock) * 1e3:.1f} ms; the clock takes {clock * 1e3:.3f} ms")
    for name, pairs in found.items():
        # The mean, as a norm is taken in one window of eight; the slowest tenth is what else the machine did.
        times = sorted(own for own, _ in pairs)
        own = statistics.mean(times[: len(times) * 9 // 10]) - clock
        print(f"{name}: {own * 1e3:.3f} ms, {100 * own / (whole - clock):.2f} %")


def _times(step: Callable[[int], None], clock: _Clock, index: int) -> tuple[float, float]:
    """The observer's own time in a step, and the whole step's."""
    clock.own, begun = 0.0, time.thread_time()
    step(index)
    return clock.own, time.thread_time() - begun


def _training(folder: Path) -> Callable[[int], None]:
    synthetic_scene(4, 32, folder=folder / "scene")
    config = load_config("tiny", [])
    sampler = Sampler([load_scene(folder / "scene", 32)], config.training.dataset, 0, 0, 1)
    trainer = Trainer(config, "cpu")

    def step(number: int) -> None:
        trainer.train_step(sampler.batch(number))
        trainer.optimizer_step()

    return step


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
