"""What a rehearsal's observer costs a ``tiny`` step: ``python -m tests.harness.rehearsal.overhead [ROUNDS]``.

Blocks of six steps with the observer and without it take turns, in one process with one thread, whose own time is
taken. Of each pair of blocks the ratio of their median steps is taken, the first of each block left out; the median of
all ratios is told, with their quartiles, in fp16 and in bf16.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import time
from collections.abc import Callable

import torch

from gslrm.config import load_config
from gslrm.data.synthetic import synthetic_scene
from gslrm.training.sampling import Sampler
from gslrm.training.trainer import Trainer
from harness.files import json_line
from harness.rehearsal.observer import Observer
from harness.rehearsal.places import Places, Script
from harness.rehearsal.record import Run, Window

STEPS = 6


class _Written:
    """Writes every window, as a rehearsal does, and puts nothing in."""

    def window_ended(self, window: Window, goes_on: bool = True) -> None:
        with open(os.devnull, "w") as file:
            file.write(json_line(window.as_json()))

    def next_window(self, run: Run) -> None:
        return None

    def keeps_saves(self) -> bool:
        return True


def main(rounds: int) -> None:
    """Measure, and print a line for each half precision."""
    torch.set_num_threads(1)
    for name in ("fp16", "bf16"):
        step, observer = _training(name), Observer(Places(Script(path=__file__)), _Written())
        pairs = []
        for number in range(rounds + 1):
            times = {}
            for watched in (True, False) if number % 2 else (False, True):
                with observer if watched else contextlib.nullcontext():
                    times[watched] = statistics.median([_time(step, index) for index in range(STEPS)][1:])
            pairs.append(times)
        del pairs[0]  # in the first round it looks for running averages
        ratios = [one[True] / one[False] for one in pairs]
        low, middle, high = (100 * (quartile - 1) for quartile in statistics.quantiles(ratios, n=4))
        plain = statistics.median(one[False] for one in pairs)
        print(f"{name}: {middle:.1f} % of {plain * 1e3:.0f} ms (quartiles {low:.1f} to {high:.1f} %, {rounds} pairs)")


def _time(step: Callable[[int], None], index: int) -> float:
    begun = time.thread_time()
    step(index)
    return time.thread_time() - begun


def _training(half: str) -> Callable[[int], None]:
    config = load_config("tiny", ["training.runtime.use_amp=true", f"training.runtime.amp_dtype={half}"])
    scene = synthetic_scene(config.training.dataset.num_views, config.model.image_tokenizer.image_size)
    sampler = Sampler([scene], config.training.dataset, 0, 0, 1)
    trainer = Trainer(config, "cpu")

    def step(number: int) -> None:
        trainer.train_step(sampler.batch(number))
        trainer.optimizer_step()

    return step


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
