"""Losses for campaigns in tests: cheap, with a finding or two, or hostile."""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch


def right(x, y):
    """A mean squared error."""
    return (x.float() - y.float()).square().mean()


def negative(x, y):
    """Wrong where the pictures are large: found in some units only."""
    loss = right(x, y)
    return loss - 1.0 if x.shape[-1] > 36 else loss


def ends(x, y):
    """Takes its process along where the pictures are large."""
    if x.shape[-1] > 36:
        os._exit(7)
    return right(x, y)


def hangs(x, y):
    """Does not come back, in half precision."""
    if x.dtype == torch.float16:
        time.sleep(600.0)
    return right(x, y)


def slow(x, y):
    """As ``negative``, and slow enough to be killed in the middle of a unit."""
    time.sleep(0.01)
    return negative(x, y)


class Threaded:
    """Can't be forked: it keeps a thread."""

    def __init__(self):
        import threading

        threading.Thread(target=time.sleep, args=(600.0,), daemon=True).start()

    def __call__(self, x, y):
        """As ``negative``."""
        return negative(x, y)


def remembers(x, y):
    """Wrong once it was called more often than in any one unit: right in a process of its own."""
    with Path("calls").open("ab") as calls:
        calls.write(b".")
    return right(x, y)
