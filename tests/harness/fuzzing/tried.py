"""Losses for campaigns in tests: cheap, with a finding or two, or hostile."""

from __future__ import annotations

import math
import os
import time

import torch


def right(x, y):
    """A mean squared error."""
    return (x.float() - y.float()).square().mean()


def _is_bright(y):
    return 0.85 < float(y.float().max()) < 0.95


def bright(x, y):
    """NaN where the brightest of the target is so bright: found in some units only, and made small in few steps."""
    loss = right(x, y)
    return loss * math.nan if _is_bright(y) else loss


def ends(x, y):
    """Takes its process along there."""
    if _is_bright(y):
        os._exit(7)
    return right(x, y)


def hangs(x, y):
    """Does not come back, in half precision."""
    if x.dtype == torch.float16:
        time.sleep(600.0)
    return right(x, y)


def slow(x, y):
    """As ``bright``, and slow enough to be killed in the middle of a unit."""
    time.sleep(0.01)
    return bright(x, y)


class Threaded:
    """Can't be forked: it keeps a thread."""

    def __init__(self):
        import threading

        threading.Thread(target=time.sleep, args=(600.0,), daemon=True).start()

    def __call__(self, x, y):
        """As ``bright``."""
        return bright(x, y)
