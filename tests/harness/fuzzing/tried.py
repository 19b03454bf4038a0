"""Losses for campaigns in tests: cheap, with a finding or two, or hostile."""

from __future__ import annotations

import math
import os
import time

import torch


def right(x, y):
    """A mean squared error."""
    return (x.float() - y.float()).square().mean()


def _is_dark(y):
    """In the corner: few of the drawn pictures are, and none of the cases that every search begins with."""
    return 0.10 < float(y.flatten()[0]) < 0.12


def dark(x, y):
    """NaN where the target is dark: found in some units only, and made small in few steps."""
    loss = right(x, y)
    return loss * math.nan if _is_dark(y) else loss


def ends(x, y):
    """Takes its process along there."""
    if _is_dark(y):
        os._exit(7)
    return right(x, y)


def hangs(x, y):
    """Does not come back, in half precision."""
    if x.dtype == torch.float16:
        time.sleep(600.0)
    return right(x, y)


def slow(x, y):
    """As ``dark``, and slow enough to be killed in the middle of a unit."""
    time.sleep(0.01)
    return dark(x, y)


class Threaded:
    """Can't be forked: it keeps a thread."""

    def __init__(self):
        import threading

        threading.Thread(target=time.sleep, args=(600.0,), daemon=True).start()

    def __call__(self, x, y):
        """As ``dark``."""
        return dark(x, y)
