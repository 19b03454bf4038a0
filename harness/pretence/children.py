"""``torch.multiprocessing.spawn``: each process that it starts is in a pretence of its own."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from harness.pretence.patches import Patches


def install(patches: Patches, devices: int) -> None:
    """Patch ``spawn``; what ``multiprocessing`` itself starts is outside, as in data loaders' workers."""

    def make(stock: Any) -> Any:
        def spawn(fn: Callable[..., None], *args: Any, **kwargs: Any) -> Any:
            return stock(partial(run_inside, devices, fn), *args, **kwargs)

        return spawn

    patches.wrap(torch.multiprocessing, "spawn", make)


def run_inside(devices: int, fn: Callable[..., None], *args: Any) -> None:
    """Call the function in a pretence: in the started process, which finds this one by its name."""
    from harness.pretence.ending import ending
    from harness.pretence.process import pretend_cuda

    started = multiprocessing.parent_process() is not None
    with ending() if started else contextlib.nullcontext(), pretend_cuda(devices):
        fn(*args)
