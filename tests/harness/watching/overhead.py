"""What watching costs a ``tiny`` step: ``python -m tests.harness.watching.overhead [ROUNDS]``.

Blocks of six steps, watched, rehearsed and neither, in turn, their order reversed every other round, in one process
with one thread; the time is the thread's own, and two steps before each block don't count. What is told of each is the
median over the rounds of the difference of the block's median from the plain block's of its round, with the standard
error. Beside it stands what the watching's own functions took, from their beginning to their end.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from gslrm.config import load_config
from gslrm.data.scene import load_scene
from gslrm.data.synthetic import synthetic_scene
from gslrm.training.sampling import Sampler
from gslrm.training.trainer import Trainer
from harness.rehearsal.observer import Observer
from harness.rehearsal.places import Places, Script
from harness.rehearsal.record import Run
from harness.watching.options import WatchOptions
from harness.watching.watcher import Watcher

STEPS, WARM = 6, 2


class _NoFaults:
    def next_window(self, run: Run) -> None:
        return None

    def keeps_saves(self) -> bool:
        return True


def main(rounds: int) -> None:
    """Measure, and print a line for each."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        step = _training(Path(folder))
        places = Places(Script(path=__file__))
        watcher = Watcher(places, WatchOptions(folder=folder))
        watcher._guard.start()
        observers: dict[str, Any] = {
            "plain": None, "watched": watcher, "rehearsed": Observer(places, _NoFaults()),
        }  # fmt: skip
        _block(watcher, step)
        _block(observers["rehearsed"], step)
        medians: dict[str, list[float]] = {name: [] for name in observers}
        for number in range(rounds):
            order = list(observers) if number % 2 else list(reversed(observers))
            for name in order:
                medians[name].append(_block(observers[name], step))
    plain = statistics.median(medians["plain"])
    print(f"a plain step takes {plain * 1e3:.2f} ms")
    for name in ("watched", "rehearsed"):
        more = [a - b for a, b in zip(medians[name], medians["plain"], strict=True)]
        error = statistics.stdev(more) / rounds**0.5
        print(f"{name}: {100 * statistics.median(more) / plain:+.2f} % (standard error {100 * error / plain:.2f} %)")


def _training(folder: Path) -> Any:
    synthetic_scene(4, 32, folder=folder / "scene")
    config = load_config("tiny", [])
    sampler = Sampler([load_scene(folder / "scene", 32)], config.training.dataset, 0, 0, 1)
    trainer = Trainer(config, "cpu")

    def step(number: int) -> None:
        trainer.train_step(sampler.batch(number))
        trainer.optimizer_step()

    return step


def _block(observer: Any, step: Any) -> float:
    """The median time of its steps."""
    times = []
    # Not the watcher's own entering, which begins and ends the watching.
    if observer is not None:
        Observer.__enter__(observer)
    try:
        for number in range(WARM + STEPS):
            begun = time.thread_time()
            step(number)
            times.append(time.thread_time() - begun)
    finally:
        if observer is not None:
            Observer.__exit__(observer)
    return statistics.median(times[WARM:])


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
